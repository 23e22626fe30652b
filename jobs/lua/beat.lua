-- Renew an attempt's lease and, where given, its progress.
-- ARGV: id, attempt id, lease in ms, then optional field/value pairs of progress
-- Returns 'ok', 'cancel' (the client asked to stop) or 'lost' (another attempt, or none, holds the job).
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
if not holds(job, ARGV[2]) then return 'lost' end
redis.call('ZADD', 'da:running', now_ms() + ARGV[3], id)
if #ARGV > 3 then
  redis.call('HSET', job, unpack(ARGV, 4))
  changed(id)
end
if redis.call('HGET', job, 'cancel_requested') == '1' then return 'cancel' end
return 'ok'
