-- One order of `core.governance.rate_orders`: all of it at once, or nothing of it. Its windows are hashes,
-- one for each key, and all keys are of one customer (one hash tag).
--
-- A window of requests or tokens: t:SLICE what all counted in a slice, o:SLICE:INCARNATION what one of them did,
-- c the slice in which old ones were last removed. One of concurrent calls: o:INCARNATION "calls until-ms".
-- Both: q:INCARNATION the last order done.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local order = cjson.decode(ARGV[1])
local me, sequence, keep, slices = order.me, order.sequence, order.keep_ms, order.slices
local used, current, mine, totals, took = {}, {}, {}, {}, {}

local function whole(number) return string.format('%.0f', number) end

-- An order that comes after its successor tells what was so before: nothing of it is done.
for _, key in ipairs(KEYS) do
  local last = redis.call('HGET', key, 'q:' .. me)
  if last and tonumber(last) >= sequence then return {now} end
end

local function count_open(key, window)
  local open, stored = 0, redis.call('HGETALL', key)
  for at = 1, #stored, 2 do
    local who = string.match(stored[at], '^o:(.*)$')
    if who then
      local calls, till = string.match(stored[at + 1], '^(%d+) (%d+)$')
      if not till or tonumber(till) < now then
        redis.call('HDEL', key, stored[at], 'q:' .. who)
      elseif who ~= me then
        open = open + tonumber(calls)
      end
    end
  end
  local own = window.mine[1] and window.mine[1][2] or 0
  return own, open + own
end

local function forget_old(key, slice)
  local stored, living = redis.call('HGETALL', key), {}
  for at = 1, #stored, 2 do
    local number, who = string.match(stored[at], '^[to]:(%d+):?(.*)$')
    if number then
      number = tonumber(number)
      if number < slice - slices or number > slice + slices then
        redis.call('HDEL', key, stored[at])
      elseif who ~= '' then
        living[who] = true
      end
    end
  end
  for at = 1, #stored, 2 do
    local who = string.match(stored[at], '^q:(.*)$')
    if who and not living[who] then redis.call('HDEL', key, stored[at]) end
  end
  redis.call('HSET', key, 'c', whole(slice))
end

local function count_slices(key, window, slice)
  if redis.call('HGET', key, 'c') ~= whole(slice) then forget_old(key, slice) end
  for _, pair in ipairs(window.mine) do
    if pair[1] >= slice - slices and pair[1] <= slice + slices then
      local name = 'o:' .. whole(pair[1]) .. ':' .. me
      local change = pair[2] - tonumber(redis.call('HGET', key, name) or '0')
      if change ~= 0 then
        redis.call('HINCRBY', key, 't:' .. whole(pair[1]), whole(change))
        redis.call('HSET', key, name, whole(pair[2]))
      end
    end
  end
  local names, sum, by_slice = {}, 0, {}
  for number = slice - slices, slice + slices do names[#names + 1] = 't:' .. whole(number) end
  local found = redis.call('HMGET', key, unpack(names))
  for at, amount in ipairs(found) do
    amount = tonumber(amount or '0')
    sum = sum + amount
    by_slice[at] = amount
  end
  return sum, by_slice
end

for n, key in ipairs(KEYS) do
  local window = order.windows[n]
  took[n] = 0
  if window.counts == 'concurrent' then
    mine[n], used[n] = count_open(key, window)
  else
    current[n] = math.floor(now / window.slice_ms)
    used[n], totals[n] = count_slices(key, window, current[n])
  end
  redis.call('HSET', key, 'q:' .. me, whole(sequence))
end

local function wait_ms(n, amount)
  local window = order.windows[n]
  if window.counts == 'concurrent' then return 0 end
  local needed, freed = used[n] + amount - window.limit, 0
  for at, there in ipairs(totals[n]) do
    freed = freed + there
    if freed >= needed then return (current[n] + at) * window.slice_ms - now end
  end
  return (2 * slices + 1) * window.slice_ms
end

local answers = {}
for number, ask in ipairs(order.asks) do
  local denied_by = 0
  for _, take in ipairs(ask.takes) do
    local n, amount = take[1] + 1, take[2]
    if used[n] + amount > order.windows[n].limit then
      denied_by = n
      answers[number] = {n - 1, used[n], wait_ms(n, amount)}
      break
    end
  end
  if denied_by == 0 then
    answers[number] = {-1, 0, 0}
    for _, take in ipairs(ask.takes) do
      local n, amount = take[1] + 1, take[2]
      used[n] = used[n] + amount
      took[n] = took[n] + amount
      if totals[n] then totals[n][slices + 1] = totals[n][slices + 1] + amount end
    end
  end
end

for n, key in ipairs(KEYS) do
  local window = order.windows[n]
  if window.counts == 'concurrent' then
    local open = mine[n] + took[n]
    if open > 0 then
      redis.call('HSET', key, 'o:' .. me, whole(open) .. ' ' .. whole(now + keep))
    else
      redis.call('HDEL', key, 'o:' .. me)
    end
    redis.call('PEXPIRE', key, whole(2 * keep))
  else
    if took[n] > 0 then
      redis.call('HINCRBY', key, 't:' .. whole(current[n]), whole(took[n]))
      redis.call('HINCRBY', key, 'o:' .. whole(current[n]) .. ':' .. me, whole(took[n]))
    end
    redis.call('PEXPIRE', key, whole((slices + 2) * window.slice_ms))
  end
end
return {now, answers}
