-- Take a queued job for one attempt. A message may come twice, late, or for a job that has ended: only a
-- queued record can be taken, and only once.
-- ARGV: id, attempt id, lease in ms, retention in ms
-- Returns 'claimed', 'expired' (its deadline passed while it waited) or 'void' (nothing to do).
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
if holds(job, ARGV[2]) then return 'claimed' end -- the same call again, after its answer was lost
if redis.call('HGET', job, 'status') ~= 'queued' then return 'void' end
local now = now_ms()
local deadline = redis.call('ZSCORE', 'da:deadlines', id)
if deadline and tonumber(deadline) <= now then
  finish(job, id, 'expired', tonumber(ARGV[4]))
  return 'expired'
end
redis.call('HSET', job, 'status', 'running', 'attempt_id', ARGV[2], 'stage', 'loading', 'step', 0, 'fraction', 0)
redis.call('HSETNX', job, 'started_ms', now)
redis.call('HINCRBY', job, 'attempt', 1)
redis.call('ZREM', 'da:queued:' .. redis.call('HGET', job, 'model'), id)
redis.call('ZREM', 'da:deadlines', id)
redis.call('ZADD', 'da:running', now + ARGV[3], id)
changed(id)
return 'claimed'
