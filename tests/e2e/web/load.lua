-- The example's load: a visitor's page, the list of products, a view, an order; each order and view with an id of its own.
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

local sent = 0

function request()
  sent = sent + 1
  local turn = sent % 4
  if turn == 0 then
    return wrk.format("GET", "/")
  elseif turn == 1 then
    return wrk.format("GET", "/api/products")
  end
  local uuid = string.format("%08x-0000-4000-8000-%012x", id, sent)
  local body = string.format('{"id":"%s","product":%d', uuid, sent % 6 + 1)
  local headers = { ["Content-Type"] = "application/json" }
  if turn == 2 then
    return wrk.format("POST", "/api/views", headers, body .. "}")
  end
  return wrk.format("POST", "/api/orders", headers, body .. ',"quantity":2}')
end

-- ms. The example's site lets one address ask the service a hundred times a second; 16 connections stay below that.
function delay()
  return 150
end

function done(summary)
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"failed":%d,"broken":%d}',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
