-- Ask a job to stop: at once while it waits, within one denoising step while it runs.
-- ARGV: id, retention in ms
-- Returns 'canceled', 'requested' or 'ended' (it had ended already), or false where there is no such job.
local id, job = ARGV[1], 'da:job:' .. ARGV[1]
local status = redis.call('HGET', job, 'status')
if not status then return false end
if status == 'queued' then
  finish(job, id, 'canceled', tonumber(ARGV[2]))
  return 'canceled'
end
if status ~= 'running' then return 'ended' end
redis.call('HSET', job, 'cancel_requested', 1)
changed(id)
return 'requested'
