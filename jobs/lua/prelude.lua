-- Put before every script. Time is the server's own, so that no two machines need to agree on it.

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Tell the doors that a record changed; they read it themselves, so a lost message costs a poll, never a fact.
local function changed(id)
  redis.call('PUBLISH', 'da:changed', id)
end

-- True while this very attempt holds the job: the fencing token is the attempt's id.
local function holds(job, attempt_id)
  local held = redis.call('HMGET', job, 'status', 'attempt_id')
  return held[1] == 'running' and held[2] == attempt_id
end

-- The running jobs of an owner are full; '' is no limit.
local function limited(owner, max_running)
  return max_running and max_running ~= '' and redis.call('SCARD', 'da:owner-running:' .. owner) >= tonumber(max_running)
end

-- Every active job is on one of two lists, by model and by owner. Places in a queue move: whoever waits is told.
local function wait(job, id)
  local held = redis.call('HMGET', job, 'model', 'owner', 'place')
  redis.call('ZADD', 'da:queued:' .. held[1], held[3], id)
  redis.call('SADD', 'da:owner-queued:' .. held[2], id)
end

local function run(job, id, lease_ms)
  redis.call('ZADD', 'da:running', now_ms() + lease_ms, id)
  redis.call('SADD', 'da:owner-running:' .. redis.call('HGET', job, 'owner'), id)
end

local function leave(job, id)
  local held = redis.call('HMGET', job, 'model', 'owner')
  if redis.call('ZREM', 'da:queued:' .. held[1], id) == 1 then changed('queue:' .. held[1]) end
  redis.call('SREM', 'da:owner-queued:' .. held[2], id)
  redis.call('ZREM', 'da:running', id)
  redis.call('SREM', 'da:owner-running:' .. held[2], id)
  redis.call('ZREM', 'da:deadlines', id)
end

-- Every transition that is told of in the metrics counts itself, so that no death of a process loses one.
local function count(job, what)
  redis.call('HINCRBY', 'da:counts:' .. redis.call('HGET', job, 'model'), what, 1)
end

-- Deliveries wait by receiver, so that one which is away holds up no other.
local function rank(host)
  local first = redis.call('ZRANGE', 'da:outbox:' .. host, 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', 'da:outbox', first[2], host) else redis.call('ZREM', 'da:outbox', host) end
end

local function post(host, id, due)
  redis.call('ZADD', 'da:outbox:' .. host, due, id)
  rank(host)
end

local function withdraw(host, id)
  redis.call('ZREM', 'da:outbox:' .. host, id)
  rank(host)
end

local function receiver(job)
  return cjson.decode(redis.call('HGET', job, 'webhook')).host
end

-- Where somebody wants to be told how the job ended, that is due in the very step that ends it.
local function tell(job, id, status, now)
  local held = redis.call('HGET', job, 'webhook')
  if not held then return end
  local webhook = cjson.decode(held)
  for _, event in ipairs(webhook.events) do
    if event == 'job.' .. status then post(webhook.host, id, now) end
  end
end

-- The only way into a terminal state: take the job off every list of active ones and start its retention.
local function finish(job, id, status, retention_ms)
  local now = now_ms()
  leave(job, id)
  redis.call('HDEL', 'da:work:' .. redis.call('HGET', job, 'model'), id)
  redis.call('HSET', job, 'status', status, 'finished_ms', now, 'expires_ms', now + retention_ms)
  redis.call('ZADD', 'da:expiring', now + retention_ms, id)
  local failure = status == 'failed' and redis.call('HGET', job, 'error')
  count(job, status .. (failure and ' ' .. cjson.decode(failure).code or ''))
  tell(job, id, status, now)
  changed(id)
end
