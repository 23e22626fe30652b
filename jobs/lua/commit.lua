-- End a running job, once: the first attempt that still holds it wins, every later one is told so.
-- A cancel that was accepted before is honoured: such a job can no longer succeed.
-- ARGV: id, attempt id, status, retention in ms, then field/value pairs (result or error)
-- Returns 'ok', 'cancel' or 'lost'.
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
local before = redis.call('HMGET', job, 'status', 'attempt_id')
if before[1] == ARGV[3] and before[2] == ARGV[2] then return 'ok' end -- the same call again
if not holds(job, ARGV[2]) then return 'lost' end
if ARGV[3] == 'succeeded' then
  if redis.call('HGET', job, 'cancel_requested') == '1' then return 'cancel' end
  redis.call('HSET', job, 'stage', 'done', 'fraction', 1)
end
if #ARGV > 4 then redis.call('HSET', job, unpack(ARGV, 5)) end
finish(job, id, ARGV[3], tonumber(ARGV[4]))
return 'ok'
