-- Do once, on keys of its own, all that the scripts do, and leave nothing: a user who lacks a right hears so before
-- anything is half done for want of it. KEYS: a hash, a list, a sorted set, a text.
local hash, list, set, text = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
for _, command in ipairs({
  {'EXISTS', hash}, {'TYPE', hash}, {'HMGET', hash, 'a'}, {'HGET', hash, 'a'}, {'HGETALL', hash}, {'HLEN', hash},
  {'HSTRLEN', hash, 'a'}, {'HEXISTS', hash, 'a'}, {'LLEN', list}, {'LRANGE', list, 0, -1}, {'ZCARD', set},
  {'ZSCORE', set, 'a'}, {'ZMSCORE', set, 'a'}, {'ZCOUNT', set, 0, 1}, {'ZRANGE', set, 0, 1}, {'ZREVRANGE', set, 0, 1},
  {'ZRANGEBYSCORE', set, 0, 1}, {'GET', text}, {'PTTL', text}, {'HSET', hash, 'a', 1, 'b', 1}, {'HDEL', hash, 'b'},
  {'RPUSH', list, 'a'}, {'ZADD', set, 1, 'a'}, {'ZREM', set, 'a'}, {'ZREMRANGEBYSCORE', set, 0, 1},
  {'SET', text, 1, 'PX', 1000}, {'PEXPIRE', text, 1000}, {'UNLINK', hash, list, set, text},
}) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    return redis.error_reply(answer.err .. ' (' .. string.lower(command[1]) .. ')')
  end
end
return 1
