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

-- The only way into a terminal state: take the job off every work list and start its retention.
local function finish(job, id, status, retention_ms)
  local now = now_ms()
  local model = redis.call('HGET', job, 'model')
  redis.call('HSET', job, 'status', status, 'finished_ms', now, 'expires_ms', now + retention_ms)
  redis.call('ZREM', 'da:queued:' .. model, id)
  redis.call('ZREM', 'da:running', id)
  redis.call('ZREM', 'da:deadlines', id)
  redis.call('ZADD', 'da:expiring', now + retention_ms, id)
  changed(id)
end
