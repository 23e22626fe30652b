-- Drop the record of a job that has ended, and what is still to be told of it.
-- ARGV: id
-- Returns 'forgotten', 'active' (it has not ended) or false where there is no such job.
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
local held = redis.call('HMGET', job, 'status', 'owner', 'idempotency', 'group')
if not held[1] then return false end
if held[1] == 'queued' or held[1] == 'running' then return 'active' end
if redis.call('HEXISTS', job, 'webhook') == 1 then
  withdraw(receiver(job), id)
  redis.call('ZREM', 'da:dead-letters', id)
end
redis.call('DEL', job)
if held[3] then redis.call('DEL', held[3]) end -- the same request may make a new job now
if held[4] and held[4] ~= '' then redis.call('LREM', 'da:group:' .. held[4], 0, id) end
redis.call('ZREM', 'da:owned:' .. held[2], id)
redis.call('ZREM', 'da:expiring', id)
return 'forgotten'
