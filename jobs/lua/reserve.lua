-- Reserve an idempotency key for a request that is being accepted.
-- ARGV: key, reservation, seconds that it holds
-- Returns false where it is ours, else what stands there.
local before = redis.call('GET', ARGV[1])
if before and before ~= ARGV[2] then return before end -- equal: the same call again, after its answer was lost
redis.call('SET', ARGV[1], ARGV[2], 'EX', ARGV[3])
return false
