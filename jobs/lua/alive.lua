-- How many workers that hold one of the models have beaten within a lease; one that holds two counts twice.
-- ARGV: models
local count = 0
for _, model in ipairs(ARGV) do
  count = count + redis.call('ZCOUNT', 'da:workers:' .. model, '(' .. now_ms(), '+inf')
end
return count
