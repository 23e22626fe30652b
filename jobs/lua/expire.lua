-- End a queued job whose deadline has passed.
-- ARGV: id, retention in ms
-- Returns 1 where it did.
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
local deadline = redis.call('ZSCORE', 'da:deadlines', id)
if not deadline or tonumber(deadline) > now_ms() then return 0 end
if redis.call('HGET', job, 'status') ~= 'queued' then return 0 end
finish(job, id, 'expired', tonumber(ARGV[2]))
return 1
