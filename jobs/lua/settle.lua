-- Say what came of a delivery, if one still holds it.
-- ARGV: time in ms or '' for the server's, id, token, 'delivered', 'failed' or 'dead', pause in ms, note
-- Returns 1 where it was held.
local now, id, job = tonumber(ARGV[1]) or now_ms(), ARGV[2], 'da:job:' .. ARGV[2]
if redis.call('HGET', job, 'delivery') ~= ARGV[3] then return 0 end
redis.call('HDEL', job, 'delivery')
local host = receiver(job)
if ARGV[4] == 'delivered' then
  withdraw(host, id)
  redis.call('HDEL', job, 'delivery_note')
  return 1
end
redis.call('HINCRBY', job, 'delivery_tries', 1)
redis.call('HSET', job, 'delivery_note', ARGV[6])
if ARGV[4] == 'failed' then
  post(host, id, now + ARGV[5])
else
  withdraw(host, id)
  redis.call('ZADD', 'da:dead-letters', now, id)
end
return 1
