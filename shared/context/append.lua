-- Writes one record at its position: checks the epoch, truncates, appends and renews in one step.
-- Position decides everything, so the same call made twice, or late, leaves what one call leaves.
-- A record is: from_position, count, length of codec (4, 4, 1 bytes, big endian), codec, rows.
-- KEYS: meta (hash: epoch, digest, bytes), log (list of records)
-- ARGV: epoch, record, time to live in ms, most bytes of a session
-- Returns {'stale', stored epoch}, {'gap', frontier}, {'full', bytes} or {'ok', frontier}
local meta, log = KEYS[1], KEYS[2]
local epoch, record, ttl_ms, max_bytes = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])

local function span(blob)
  local from, count, _, rows_at = struct.unpack('>I4I4Bc0', blob)
  return from, from + count, rows_at
end

local function before(blob, position)
  local from, stop, rows_at = span(blob)
  local row_bytes = (#blob - rows_at + 1) / (stop - from)
  local count = position - from
  return struct.pack('>I4I4', from, count) .. string.sub(blob, 9, rows_at - 1 + count * row_bytes)
end

local function renew(frontier)
  redis.call('HSET', meta, 'epoch', epoch)
  redis.call('PEXPIRE', meta, ttl_ms)
  redis.call('PEXPIRE', log, ttl_ms)
  return {'ok', frontier}
end

local from, stop = span(record)
local stored = redis.call('HMGET', meta, 'epoch', 'bytes')
if stored[1] and tonumber(stored[1]) > epoch then
  return {'stale', tonumber(stored[1])}
end
if not stored[1] then
  if from > 0 then
    return {'gap', 0}
  end
  -- Rows without meta are of an unknown epoch and bundle. HSET comes first, because a full Redis
  -- refuses a script's first write only, and DEL would pass.
  redis.call('HSET', meta, 'epoch', epoch)
  redis.call('DEL', log)
end

-- The frontier is read off the last record and never stored: it can't disagree with the rows.
local at, last, frontier, bytes = -1, redis.call('LINDEX', log, -1), 0, 0
if last then
  local _
  _, frontier = span(last)
  bytes = tonumber(stored[2])
end
if from > frontier then
  return {'gap', frontier}
end

while last and span(last) > from do
  bytes = bytes - #last
  at = at - 1
  last = redis.call('LINDEX', log, at)
end
if last == record then
  return renew(frontier)
end

local kept
if last then
  local last_from, last_stop = span(last)
  if last_from == from then
    bytes = bytes - #last
    at = at - 1
  elseif last_stop > from then
    kept = before(last, from)
    bytes = bytes - #last + #kept
  end
end
bytes = bytes + #record
if bytes > max_bytes then
  return {'full', bytes}
end
if at < -1 then
  redis.call('LTRIM', log, 0, at)
end
if kept then
  redis.call('LSET', log, -1, kept)
end
redis.call('RPUSH', log, record)
redis.call('HSET', meta, 'bytes', bytes)
return renew(stop)
