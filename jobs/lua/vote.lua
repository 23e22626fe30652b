-- Keep a rater's vote on a pair of a study, once, for as long as the study is kept.
-- ARGV: study, the field it is kept under, the vote, the most votes of a study
-- Returns 'kept', 'full', the vote that was kept under the field before, or false where there is no such study.
local study, votes = 'da:study:' .. ARGV[1], 'da:study-votes:' .. ARGV[1]
local left_ms = redis.call('PTTL', study)
if left_ms < 0 then return false end
local before = redis.call('HGET', votes, ARGV[2])
if before then return before end
if redis.call('HLEN', votes) >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', votes, ARGV[2], ARGV[3])
redis.call('PEXPIRE', votes, left_ms)
return 'kept'
