-- wrk: sends the request lines of a file in turn, or logins of ever new users, and prints one line
-- of results for bench.py.
--   wrk ... -s load.lua URL tokens FILE       GET of the URL's path with each token of FILE
--   wrk ... -s load.lua URL logins KEY PREFIX POST with a new user each time
local requests, position = {}, 0
local key, prefix

function init(arguments)
    if arguments[1] == "tokens" then
        for token in io.lines(arguments[2]) do
            requests[#requests + 1] = wrk.format("GET", nil, {["Authorization"] = "Bearer " .. token})
        end
    else
        key, prefix = arguments[2], arguments[3]
    end
end

function request()
    position = position + 1
    if key == nil then
        return requests[position % #requests + 1]
    end
    local body = string.format('{"user_id":"%s-%d","roles":["customer"],"device":{"id":"d-%d",' ..
        '"type":"mobile","name":"Pixel 8"},"ip":"198.51.100.7","user_agent":"bench/1.0"}',
        prefix, position, position)
    return wrk.format("POST", nil, {["Authorization"] = "Bearer " .. key,
                                    ["Content-Type"] = "application/json"}, body)
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format("result %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
