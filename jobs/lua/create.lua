-- Write a new record and put it on its model's list, unless that list is full.
-- ARGV: id, owner, model, priority rank, max queued, deadline in ms or '', idempotency key or '', what to keep under
-- it, for how many seconds, then field/value pairs of the record
-- Returns 1, or 0 where the queue is full.
local id, owner, model, rank = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local job, queued = 'da:job:' .. id, 'da:queued:' .. model
if redis.call('EXISTS', job) == 1 then return 1 end -- the same call again, after its answer was lost
if redis.call('ZCARD', queued) >= tonumber(ARGV[5]) then return 0 end
local now = now_ms()
redis.call('HSET', job, unpack(ARGV, 10))
-- higher priority first, then first come, first served
local place = rank * 1e13 + now
redis.call('HSET', job, 'id', id, 'owner', owner, 'model', model, 'status', 'queued', 'created_ms', now, 'place', place)
redis.call('ZADD', queued, place, id)
redis.call('ZADD', 'da:owned:' .. owner, now, id)
if ARGV[6] ~= '' then redis.call('ZADD', 'da:deadlines', now + ARGV[6], id) end
if ARGV[7] ~= '' then
  redis.call('SET', ARGV[7], ARGV[8], 'EX', ARGV[9])
  redis.call('HSET', job, 'idempotency', ARGV[7])
end
changed(id)
return 1
