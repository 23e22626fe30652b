-- Take a queued job for one attempt: only a queued record can be taken, and only once.
-- ARGV: id, attempt id, lease in ms, retention in ms
-- Returns 'claimed', 'expired' (its deadline passed while it waited), 'limited' (its owner's running jobs are full)
-- or 'void' (nothing to do).
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
if holds(job, ARGV[2]) then return 'claimed' end -- the same call again, after its answer was lost
local held = redis.call('HMGET', job, 'status', 'owner', 'max_running')
if held[1] ~= 'queued' then return 'void' end
local now = now_ms()
local deadline = redis.call('ZSCORE', 'da:deadlines', id)
if deadline and tonumber(deadline) <= now then
  finish(job, id, 'expired', tonumber(ARGV[4]))
  return 'expired'
end
if limited(held[2], held[3]) then return 'limited' end
redis.call('HSET', job, 'status', 'running', 'attempt_id', ARGV[2], 'stage', 'loading', 'step', 0, 'fraction', 0)
redis.call('HSETNX', job, 'started_ms', now)
redis.call('HINCRBY', job, 'attempt', 1)
count(job, 'attempt')
leave(job, id)
run(job, id, ARGV[3])
changed(id)
return 'claimed'
