-- Make a delivery that was given up due again, as if it had never been tried.
-- ARGV: time in ms or '' for the server's, id
-- Returns 1 where it was given up.
local id, job = ARGV[2], 'da:job:' .. ARGV[2]
if redis.call('ZREM', 'da:dead-letters', id) == 0 then return 0 end
redis.call('HDEL', job, 'delivery_tries', 'delivery_note')
post(receiver(job), id, tonumber(ARGV[1]) or now_ms())
return 1
