-- What sessions count that retention removed: by id, and when they were created. `measuring.py` writes and reads the
-- same: whose a session was ('=' and who, or ''), NUL, its version, NUL, and the rest as JSON.
local function probe_metrics(base)
  redis.call('HLEN', base .. ':metrics')
  redis.call('ZCARD', base .. ':purged')
end

local function put_metrics(base, id, created, metrics)
  redis.call('HSET', base .. ':metrics', id, metrics)
  redis.call('ZADD', base .. ':purged', created, id)
end

local function forget_metrics(base, id)
  redis.call('HDEL', base .. ':metrics', id)
  redis.call('ZREM', base .. ':purged', id)
end
