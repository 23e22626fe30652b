-- Take the delivery that is due first, for as long as a lease: then it is due again, unless it was settled.
-- ARGV: time in ms or '' for the server's, token, lease in ms, receivers to pass over
-- Returns id, owner, webhook and failed tries, or false where none is due.
local now, full = tonumber(ARGV[1]) or now_ms(), {}
for at = 4, #ARGV do full[ARGV[at]] = true end
for _, host in ipairs(redis.call('ZRANGEBYSCORE', 'da:outbox', '-inf', now)) do
  if not full[host] then
    local id = redis.call('ZRANGE', 'da:outbox:' .. host, 0, 0)[1]
    local job = 'da:job:' .. id
    local held = redis.call('HMGET', job, 'owner', 'webhook', 'delivery_tries')
    if held[2] then
      post(host, id, now + ARGV[3])
      redis.call('HSET', job, 'delivery', ARGV[2])
      return {id, held[1], held[2], held[3] or '0'}
    end
    withdraw(host, id) -- the record is gone by another way than forget
  end
end
return false
