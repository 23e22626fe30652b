-- Give a reserved idempotency key back, unless it means a job by now.
-- ARGV: key
local held = redis.call('GET', ARGV[1])
if held and cjson.decode(held)[2] == cjson.null then redis.call('DEL', ARGV[1]) end
