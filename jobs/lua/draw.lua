-- Note a key's use and draw from its buckets, in order, until one holds too little. A bucket refills evenly: GCRA
-- (ITU-T I.371), so all that is kept of it is the time at which it is full again.
-- ARGV: key id, how coarsely its last use is kept in ms, then for each bucket: name, quota, window in ms, cost
-- Returns for each bucket that was reached: 1 or 0 (refused, nothing drawn), units left, ms until there is one more
-- or, where it was refused, until the cost is there.
local now, record, levels = now_ms(), 'da:key:' .. ARGV[1], {}
local used = redis.call('HGET', record, 'last_used_ms')
if used and now - used >= tonumber(ARGV[2]) then redis.call('HSET', record, 'last_used_ms', now) end
for at = 3, #ARGV, 4 do
  local bucket, window, cost = 'da:bucket:' .. ARGV[1] .. ':' .. ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local unit = window / ARGV[at + 1]
  local missing = math.max(0, (tonumber(redis.call('GET', bucket) or 0)) - now)
  local after = missing + cost * unit
  local taken = after <= window + unit / 1000
  if taken then
    missing = math.min(after, window)
    if cost > 0 then
      redis.call('SET', bucket, string.format('%.6f', now + missing), 'PX', math.max(1, math.ceil(missing)))
    end
  end
  local left = math.floor((window - missing) / unit + 0.001)
  local wait = taken and (left + 1) * unit - (window - missing) or after - window
  levels[#levels + 1] = {taken and 1 or 0, left, math.ceil(math.max(0, wait))}
  if not taken then break end
end
return levels
