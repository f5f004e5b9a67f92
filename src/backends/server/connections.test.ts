import assert from "node:assert/strict";
import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createServer,
  type Http2ServerRequest,
  type ServerHttp2Session,
} from "node:http2";
import { buffer } from "node:stream/consumers";
import { test, type TestContext } from "node:test";

import { listenHere } from "../../../test/support/listen-here.ts";
import { until } from "../../../test/support/until.ts";
import { http2Settings, track } from "./connections.ts";

const mib = 1024 * 1024;

/** A caller of a backend's listener, and the windows that this has told it. */
async function callerOf(
  t: TestContext,
  read: (request: Http2ServerRequest) => Promise<unknown>,
): Promise<{ readonly caller: ClientHttp2Session; readonly windows: number[] }> {
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer(http2Settings, (request, response) => {
    request.stream.on("error", () => {});
    void read(request).then(() => response.end());
  });
  server.on("session", (session) => track(session, sessions));
  const port = await listenHere(server);
  const caller = connect(`http://127.0.0.1:${port}`);
  const windows: number[] = [];
  caller.on("remoteSettings", ({ initialWindowSize = 0 }) => windows.push(initialWindowSize));
  t.after(() => {
    caller.destroy();
    server.close();
  });
  await once(caller, "remoteSettings");
  return { caller, windows };
}

function send(caller: ClientHttp2Session, bytes: number): ClientHttp2Stream {
  const call = caller.request({ ":method": "POST", ":path": "/" });
  call.on("error", () => {});
  call.end(Buffer.alloc(bytes));
  return call;
}

test("bodies that are not read take 64 KiB each", async (t) => {
  const requests: Http2ServerRequest[] = [];
  const { caller, windows } = await callerOf(t, async (request) => {
    requests.push(request);
    await once(request.stream, "close");
  });
  const count = 50;
  for (let call = 0; call < count; call++) {
    send(caller, mib);
  }
  await until(() => requests[count - 1]);
  const held = (): number => requests.reduce((sum, { stream }) => sum + stream.readableLength, 0);
  await until(() => held() >= count * 16_384 || undefined);
  await new Promise<void>((resolve) => caller.ping(() => resolve()));
  assert.ok(held() <= count * 64 * 1024, `${held()} bytes`);
  assert.deepEqual(windows, [64 * 1024]);
});

test("a body that is read may have 2 MiB on the way, and the next one 64 KiB until it is read", async (t) => {
  const { caller, windows } = await callerOf(t, async (request) => {
    assert.equal((await buffer(request)).length, 8 * mib);
  });
  const call = send(caller, 8 * mib).resume();
  await once(call, "close");
  await until(() => windows.length >= 3 || undefined);
  assert.deepEqual(windows, [64 * 1024, 2 * mib, 64 * 1024]);
});

test("a window changes less often than what a dialling end takes", async (t) => {
  const { caller, windows } = await callerOf(t, buffer);
  for (let call = 0; call < 40; call++) {
    await once(send(caller, 512 * 1024).resume(), "close");
  }
  assert.ok(windows.length > 3 && windows.length < 20, `${windows.length} changes`);
});
