-- wrk: validates tokens, logs users in or sets policies, and prints one line of results for load.py.
--
--   wrk ... -s load.lua URL random FILE             GET with tokens of FILE drawn at random
--   wrk ... -s load.lua URL each FILE COUNT         GET with each token in turn
--   wrk ... -s load.lua URL batches KEY FILE SIZE   POST of SIZE tokens of FILE drawn at random
--   wrk ... -s load.lua URL logins KEY PREFIX       POST with a new user each time
--   wrk ... -s load.lua URL logins KEY PREFIX COUNT FILE   and the access tokens are added to FILE
--   wrk ... -s load.lua URL shuffled KEY TENANT COUNT FILE TENANTS USERS FIRST
--                                                   the same out of a random order of all USERS, from the FIRST on;
--                                                   they belong to TENANTS tenants, to each as many
--   wrk ... -s load.lua URL policies KEY TENANT COUNT      PUT of a policy for each of COUNT tenants
--
-- What has a COUNT sends as many requests and no more. It prints "begin" with the first; "enough" when all
-- are answered, and then waits to be ended, which a script of wrk cannot do itself.
local SILENCE_MS = 3600 * 1000

local make -- gives the request at a position
local position, sent, answered, wanted, output = 0, 0, 0, nil, nil

-- --- requests ---

-- What stands before and after the token is the same in all requests.
local function read_tokens(path)
    local file = assert(io.open(path, "r"))
    local tokens = file:read("*a")
    file:close()
    local width = tokens:find("\n", 1, true)
    local mark = "@token@"
    local request = wrk.format("GET", nil, {["Authorization"] = "Bearer " .. mark})
    local first, last = request:find(mark, 1, true)
    local before, after = request:sub(1, first - 1), request:sub(last + 1)
    return #tokens / width, function(line)
        return before .. tokens:sub(line * width + 1, (line + 1) * width - 1) .. after
    end
end

local function with_key(key, method, path, body)
    return wrk.format(method, path, {["Authorization"] = "Bearer " .. key,
                                     ["Content-Type"] = "application/json"}, body)
end

local function login(key, tenant, prefix, number)
    return with_key(key, "POST", nil, string.format('{%s"user_id":"%s-%07d@example.com","roles":["customer","beta"],' ..
        '"device":{"id":"device-%07d","type":"mobile","name":"Pixel 8 of the house"},' ..
        '"ip":"198.51.100.7","user_agent":"Mozilla/5.0 (X11; Linux x86_64) bench/1.0"}',
        tenant, prefix, number, number))
end

local function tenant_name(tenant, number)
    return string.format("%s-%06d", tenant, number)
end

-- No two in succession are alike; with a rate, so that it is looked after, that nobody reaches.
local function put_policy(key, tenant, number)
    return with_key(key, "PUT", string.format("/v1/tenants/%s/policy", tenant_name(tenant, number)), string.format(
        '{"idle_timeout":%d,"max_devices":%d,"rate":{"requests_per_second":%d},"roles":{"staff":{"idle_timeout":%d}}}',
        1800 + number % 600, 3 + number % 8, 900000 + number % 100000, 3600 + number % 600))
end

-- The numbers below `total`, each once and then again, in a random order; from the place `first` on. A
-- linear congruential generator with a power of two has the full period if the factor is 1 modulo 4.
local function shuffle(total, first)
    local modulus, state = 4, 0
    while modulus < total do
        modulus = modulus * 2
    end
    local function draw()
        repeat
            state = (state * 1664525 + 1013904223) % modulus
        until state < total
        return state
    end
    for _ = 1, first do
        draw()
    end
    return draw
end

-- --- modes ---

local modes = {}

function modes.random(path)
    local total, get = read_tokens(path)
    math.randomseed(os.time())
    make = function() return get(math.random(0, total - 1)) end
end

function modes.each(path, count)
    local total, get = read_tokens(path)
    wanted = tonumber(count)
    make = function() return get(position % total) end
end

-- A few hundred bodies, made before the first request.
function modes.batches(key, path, size)
    local tokens, bodies = {}, {}
    for line in io.lines(path) do
        tokens[#tokens + 1] = '"' .. line .. '"'
    end
    math.randomseed(os.time())
    for number = 1, 256 do
        local drawn = {}
        for place = 1, tonumber(size) do
            drawn[place] = tokens[math.random(#tokens)]
        end
        bodies[number] = with_key(key, "POST", nil, '{"tokens":[' .. table.concat(drawn, ",") .. "]}")
    end
    make = function() return bodies[math.random(#bodies)] end
end

local function collect(count, path)
    wanted = tonumber(count)
    output = wanted and assert(io.open(path, "a"))
end

function modes.logins(key, prefix, count, path)
    collect(count, path)
    make = function() return login(key, "", prefix, position) end
end

function modes.shuffled(key, tenant, count, path, tenants, users, first)
    collect(count, path)
    local each = users / tenants
    local draw = shuffle(tonumber(users), tonumber(first))
    make = function()
        local number = draw()
        return login(key, string.format('"tenant":"%s",', tenant_name(tenant, math.floor(number / each))), "user", number)
    end
end

function modes.policies(key, tenant, count)
    wanted = tonumber(count)
    make = function() return put_policy(key, tenant, position % wanted) end
end

-- --- what wrk calls ---

local function say(word)
    io.write(word, "\n")
    io.flush()
end

local function count_answer(status, _, body)
    answered = answered + 1
    if output and status < 300 then
        output:write(body:match('"access_token":"(sa_[%w_-]+)"'), "\n")
    end
    if answered == wanted then
        if output then
            output:close()
        end
        say("enough")
    end
end

-- Milliseconds before a connection sends its next request.
local function hold_back()
    sent = sent + 1
    if sent == 1 then
        say("begin")
    end
    return sent > wanted and SILENCE_MS or 0
end

function init(arguments)
    modes[arguments[1]](unpack(arguments, 2))
    if wanted then
        delay, response = hold_back, count_answer
    end
end

-- wrk makes one request that it looks at and does not send. In a cycle the last one stands for it.
function request()
    position = position + 1
    return make()
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format("result %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
