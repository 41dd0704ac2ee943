-- wrk: validates tokens or logs users in, and prints one line of results for bench.py.
--
--   wrk ... -s load.lua URL random FILE               GET with tokens of FILE drawn at random
--   wrk ... -s load.lua URL each FILE COUNT           GET with each token in turn
--   wrk ... -s load.lua URL logins KEY PREFIX         POST with a new user each time
--   wrk ... -s load.lua URL logins KEY PREFIX COUNT FILE   and the access tokens go to FILE
--
-- A file of tokens has lines of one length. After COUNT good answers it prints "enough" and goes on
-- until wrk is ended, which a script of wrk cannot do itself.
local tokens, width, total, draw
local before, after
local key, prefix
local position, answers, wanted, output = 0, 0, nil, nil

-- What stands before and after the token is the same in all requests.
local function read_tokens(path)
    local file = assert(io.open(path, "r"))
    tokens = file:read("*a")
    file:close()
    width = tokens:find("\n", 1, true)
    total = #tokens / width
    local mark = "@token@"
    local request = wrk.format("GET", nil, {["Authorization"] = "Bearer " .. mark})
    local first, last = request:find(mark, 1, true)
    before, after = request:sub(1, first - 1), request:sub(last + 1)
end

function init(arguments)
    if arguments[1] == "logins" then
        key, prefix = arguments[2], arguments[3]
        wanted = tonumber(arguments[4])
        output = wanted and assert(io.open(arguments[5], "w"))
    else
        read_tokens(arguments[2])
        draw = arguments[1] == "random"
        wanted = tonumber(arguments[3])
        math.randomseed(os.time())
    end
    if wanted then
        response = count_answer
    end
end

function count_answer(status, _, body)
    if status >= 300 then
        return
    end
    answers = answers + 1
    if output and answers <= wanted then
        output:write(body:match('"access_token":"(sa_[%w_-]+)"'), "\n")
    end
    if answers == wanted then
        if output then
            output:close()
        end
        io.write("enough\n")
        io.flush()
    end
end

local function login()
    local body = string.format('{"user_id":"%s-%07d@example.com","roles":["customer","beta"],' ..
        '"device":{"id":"device-%07d","type":"mobile","name":"Pixel 8 of the house"},' ..
        '"ip":"198.51.100.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) bench/1.0"}',
        prefix, position, position)
    return wrk.format("POST", nil, {["Authorization"] = "Bearer " .. key,
                                    ["Content-Type"] = "application/json"}, body)
end

function request()
    position = position + 1
    if key then
        return login()
    end
    local line = draw and math.random(0, total - 1) or position % total
    local start = line * width
    return before .. tokens:sub(start + 1, start + width - 1) .. after
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format("result %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
