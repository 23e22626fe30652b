-- What a worker may take now, first come, first served after the head starts of the priorities.
-- ARGV: how many ids, the newest schema that the worker reads, then the models that it holds
-- Returns ids in order. Jobs of an owner whose running jobs are full, and those that only a later release can read, are
-- passed over; they keep their place.
local wanted, schema, found, full = tonumber(ARGV[1]), tonumber(ARGV[2]), {}, {}
for m = 3, #ARGV do
  local start, taken = 0, 0
  repeat
    local page = redis.call('ZRANGE', 'da:queued:' .. ARGV[m], start, start + 49, 'WITHSCORES')
    for i = 1, #page, 2 do
      if taken == wanted then break end
      local held = redis.call('HMGET', 'da:job:' .. page[i], 'owner', 'max_running', 'schema')
      if full[held[1]] == nil then full[held[1]] = limited(held[1], held[2]) or false end
      if not full[held[1]] and tonumber(held[3] or 1) <= schema then
        found[#found + 1] = {id = page[i], place = tonumber(page[i + 1])}
        taken = taken + 1
      end
    end
    start = start + 50
  until taken == wanted or #page == 0
end
table.sort(found, function(a, b) return a.place < b.place end)
local ids = {}
for i = 1, math.min(wanted, #found) do ids[i] = found[i].id end
return ids
