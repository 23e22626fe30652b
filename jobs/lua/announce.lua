-- A worker is alive and holds a model, for as long as a lease.
-- ARGV: worker, model, its card, lease in ms
local now = now_ms()
redis.call('HSET', 'da:models', ARGV[2], ARGV[3])
redis.call('ZADD', 'da:workers:' .. ARGV[2], now + ARGV[4], ARGV[1])
redis.call('ZREMRANGEBYSCORE', 'da:workers:' .. ARGV[2], '-inf', now)
