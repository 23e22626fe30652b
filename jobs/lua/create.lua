-- Write the records of new jobs, all or none, and put them on their models' lists.
-- ARGV: owner, max queued per model, the owner's max queued or '', its max running or '', idempotency key or '', what
-- to keep under it, for how many seconds, group or '', then for each job: id, model, head start in ms, deadline in ms
-- or '', work, number of fields, field/value pairs of the record
-- Returns 'created', 'full' (the model's queue) or 'limited' (the owner's).
local owner, group = ARGV[1], ARGV[8]
local jobs, at = {}, 9
while at <= #ARGV do
  local job = {id = ARGV[at], model = ARGV[at + 1], head_start = ARGV[at + 2], deadline = ARGV[at + 3],
    work = ARGV[at + 4], fields = {}}
  at = at + 6
  for field = 1, ARGV[at - 1] do
    job.fields[field] = ARGV[at]
    at = at + 1
  end
  jobs[#jobs + 1] = job
end
if redis.call('EXISTS', 'da:job:' .. jobs[1].id) == 1 then return 'created' end -- again, after its answer was lost
local more = {}
for _, job in ipairs(jobs) do more[job.model] = (more[job.model] or 0) + 1 end
for model, count in pairs(more) do
  if redis.call('ZCARD', 'da:queued:' .. model) + count > tonumber(ARGV[2]) then return 'full' end
end
if ARGV[3] ~= '' and redis.call('SCARD', 'da:owner-queued:' .. owner) + #jobs > tonumber(ARGV[3]) then
  return 'limited'
end
local now = now_ms()
for index, job in ipairs(jobs) do
  local key = 'da:job:' .. job.id
  redis.call('HSET', key, unpack(job.fields))
  redis.call('HSET', key, 'id', job.id, 'owner', owner, 'model', job.model, 'status', 'queued', 'created_ms', now,
    'place', now - job.head_start + index / 1000, 'max_running', ARGV[4], 'group', group)
  redis.call('HSET', 'da:work:' .. job.model, job.id, job.work)
  wait(key, job.id)
  redis.call('ZADD', 'da:owned:' .. owner, now, job.id)
  if job.deadline ~= '' then redis.call('ZADD', 'da:deadlines', now + job.deadline, job.id) end
  if group ~= '' then redis.call('RPUSH', 'da:group:' .. group, job.id) end
  if ARGV[5] ~= '' then redis.call('HSET', key, 'idempotency', ARGV[5]) end
  changed(job.id)
end
if ARGV[5] ~= '' then redis.call('SET', ARGV[5], ARGV[6], 'EX', ARGV[7]) end
return 'created'
