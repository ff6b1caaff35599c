-- One exchange of a router process: what it has left of its leases goes back into the buckets, and
-- new leases come out. Atomic, so leases and buckets never hold more than the limit together.
--
-- KEYS[1]    sorted set of live processes, by when each was last heard (Redis time, seconds)
-- KEYS[i+1]  hash of a key's buckets: r, t (level), lr, lt (limit), at (time), p:<process> (running)
-- ARGV[1]    this process    ARGV[2]  seconds after which a silent process is gone
-- then 7 for each key: limit of requests and tokens a minute, unspent requests and tokens (below 0:
-- spent ahead), requests running here, bound on those, and 1 if it wants a lease
-- Returns {processes, then 5 for each key: granted requests, tokens, left of each, running elsewhere}.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
local alive, processes = {}, 0
for _, process in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  alive[process] = true
  processes = processes + 1
end

-- Level after inflow, moved by a change of the limit, with what comes back.
local function refill(level, known_limit, limit, elapsed, unspent)
  if limit == 0 then return 0 end
  if not level then
    level = limit
  else
    level = tonumber(level) + elapsed * limit / 60 + (limit - tonumber(known_limit))
  end
  return math.min(limit, level + unspent)
end

-- An equal part, but not less than can be used.
local function lease(level, wants, smallest)
  if not wants or level <= 0 then return 0 end
  return math.min(level, math.max(level / processes, smallest))
end

local reply = {tostring(processes)}
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 7
  local limit_requests, limit_tokens = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local wants = ARGV[at + 6] == '1'
  local known = redis.call('HMGET', KEYS[i], 'r', 't', 'lr', 'lt', 'at')
  local elapsed = math.max(0, now - (tonumber(known[5]) or now))
  local requests = refill(known[1], known[3], limit_requests, elapsed, tonumber(ARGV[at + 2]))
  local tokens = refill(known[2], known[4], limit_tokens, elapsed, tonumber(ARGV[at + 3]))
  local granted_requests = lease(requests, wants, 1)
  local granted_tokens = lease(tokens, wants, limit_tokens / 100)
  requests, tokens = requests - granted_requests, tokens - granted_tokens
  redis.call('HSET', KEYS[i], 'r', string.format('%.6f', requests), 't',
    string.format('%.6f', tokens), 'lr', limit_requests, 'lt', limit_tokens, 'at',
    string.format('%.6f', now))
  local elsewhere = 0
  if ARGV[at + 5] ~= '0' then
    redis.call('HSET', KEYS[i], 'p:' .. ARGV[1], ARGV[at + 4])
    local fields = redis.call('HGETALL', KEYS[i])
    for field = 1, #fields, 2 do
      local process = string.match(fields[field], '^p:(.*)')
      if process and not alive[process] then
        redis.call('HDEL', KEYS[i], fields[field])
      elseif process and process ~= ARGV[1] then
        elsewhere = elsewhere + tonumber(fields[field + 1])
      end
    end
  end
  -- Kept until it is full again, debts included; two minutes at least.
  local minutes = 1
  if limit_requests > 0 then minutes = math.max(minutes, 1 - requests / limit_requests) end
  if limit_tokens > 0 then minutes = math.max(minutes, 1 - tokens / limit_tokens) end
  redis.call('EXPIRE', KEYS[i], math.ceil(60 * (minutes + 1)))
  for _, number in ipairs({granted_requests, granted_tokens, requests, tokens, elsewhere}) do
    reply[#reply + 1] = string.format('%.6f', number)
  end
end
return reply
