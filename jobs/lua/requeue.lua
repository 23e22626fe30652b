-- Put a running job back on its list, in its old place.
-- With an attempt id: its holder hands it back (the worker drains), which costs nothing.
-- Without one: its lease ran out (the worker died), which spends one of the allowed crashes.
-- ARGV: id, attempt id or '', max crashes, retention in ms
-- Returns 'queued', 'failed', 'canceled' or 'void'.
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
if ARGV[2] ~= '' then
  if not holds(job, ARGV[2]) then return 'void' end
  redis.call('HINCRBY', job, 'attempt', -1)
  count(job, 'interrupted drained')
else
  local lease = redis.call('ZSCORE', 'da:running', id)
  if not lease or tonumber(lease) > now_ms() then return 'void' end
  count(job, 'interrupted lease_lost')
  if redis.call('HINCRBY', job, 'crashes', 1) >= tonumber(ARGV[3]) then
    redis.call('HSET', job, 'error', cjson.encode({code = 'worker_crashed',
      detail = 'The worker died in each of ' .. ARGV[3] .. ' attempts; the job is not tried again.'}))
    finish(job, id, 'failed', tonumber(ARGV[4]))
    return 'failed'
  end
end
if redis.call('HGET', job, 'cancel_requested') == '1' then
  finish(job, id, 'canceled', tonumber(ARGV[4]))
  return 'canceled'
end
redis.call('HSET', job, 'status', 'queued', 'attempt_id', '', 'stage', 'queued', 'step', 0, 'fraction', 0)
leave(job, id)
wait(job, id)
changed(id)
return 'queued'
