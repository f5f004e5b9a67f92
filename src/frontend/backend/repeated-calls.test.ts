/** Calls of a backend that is lost, or is none. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Code, ConnectError, type ConnectRouter, createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { toConnectError } from "../../common/connect-error.ts";
import { conflict, fromUnknown } from "../../common/errors.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ContainerService } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { ExecService } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { type BackendClients, createBackendClients } from "./clients.ts";
import { type BackendTransport, createBackendTransport } from "./transport.ts";
import { mayRetry } from "./repeated-calls.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

type Handler = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

const fromLibrary = (routes: (router: ConnectRouter) => void): Handler => connectNodeAdapter({ routes });

async function clientsOf(t: TestContext, handler: Handler): Promise<BackendClients> {
  return createBackendClients((await dialled(t, handler)).transport);
}

async function dialled(t: TestContext, handler: Handler): Promise<BackendTransport> {
  const directory = scratchDirectory();
  const socket = join(directory, "backend.sock");
  const server = createServer(handler).listen(socket);
  await once(server, "listening");
  const backend = createBackendTransport({ address: `unix://${socket}` });
  t.after(async () => {
    backend.close();
    server.close();
  });
  return backend;
}

test("an answer of any size is understood", async (t) => {
  const name = "n".repeat(3_000_000);
  const clients = await clientsOf(
    t,
    fromLibrary((router) => router.service(SystemService, { getInfo: () => ({ name }) })),
  );
  assert.equal((await clients.system.getInfo({})).name, name);
});

test("an error keeps its kind and its words", async (t) => {
  const clients = await clientsOf(
    t,
    fromLibrary((router) =>
      router.service(SystemService, {
        getInfo: () => {
          throw toConnectError(conflict("the engine is busy – très"));
        },
      }),
    ),
  );
  await assert.rejects(clients.system.getInfo({}), (error) => {
    const { kind, message } = fromUnknown(error);
    assert.deepEqual([kind, message], ["conflict", "the engine is busy – très"]);
    return true;
  });
});

test("a method that the backend does not have is not implemented", async (t) => {
  const clients = await clientsOf(
    t,
    fromLibrary((router) => router.service(SystemService, {})),
  );
  await assert.rejects(clients.system.getInfo({}), { code: Code.Unimplemented });
});

/** A backend that ends with its answer to the first calls, and what the calls were that it got. */
function endingBackend(endings: number): { readonly tokens: string[]; readonly handler: Handler } {
  const tokens: string[] = [];
  const library = fromLibrary((router) => {
    router.service(Health, { check: () => ({}) });
    router.service(ContainerService, {
      startContainer: ({ clientToken }) => {
        tokens.push(clientToken);
        return {};
      },
    });
  });
  let left = endings;
  const handler: Handler = (request, response) => {
    if (request.url.endsWith("/StartContainer") && left > 0) {
      left -= 1;
      tokens.push("lost");
      request.stream.session?.destroy();
    } else {
      library(request, response);
    }
  };
  return { tokens, handler };
}

test("a call with a token whose answer is lost is made again, once the backend answers", async (t) => {
  const { tokens, handler } = endingBackend(2);
  const clients = await clientsOf(t, handler);
  await clients.containers.startContainer({ container: "c", clientToken: "token" });
  assert.deepEqual(tokens, ["lost", "lost", "token"]);
});

test("a call with a token whose answer is lost again and again is made again after a pause each time", async (t) => {
  const { tokens, handler } = endingBackend(Infinity);
  const clients = await clientsOf(t, handler);
  const untilMs = performance.now() + 400;
  const contextValues = createContextValues().set(mayRetry, () => performance.now() < untilMs);
  const call = clients.containers.startContainer({ container: "c", clientToken: "token" }, { contextValues });
  await assert.rejects(call, { code: Code.Unavailable });
  // A pause is 100 ms, of which a timer may fall short by one: the first call, and no more than four after it.
  assert.ok(tokens.length <= 5, `${tokens.length} calls`);
});

test("a call with a token is not made again where its caller does not want it any more", async (t) => {
  const { tokens, handler } = endingBackend(1);
  const clients = await clientsOf(t, handler);
  const contextValues = createContextValues().set(mayRetry, () => false);
  const call = clients.containers.startContainer({ container: "c", clientToken: "token" }, { contextValues });
  await assert.rejects(call, { code: Code.Unavailable });
  assert.deepEqual(tokens, ["lost"]);
});

/** A backend that ends with its answer to the first calls of any kind. */
function endingAtFirstCalls(endings: number, routes: (router: ConnectRouter) => void): Handler {
  const library = fromLibrary(routes);
  let left = endings;
  return (request, response) => {
    if (left > 0) {
      left -= 1;
      request.stream.session?.destroy();
    } else {
      library(request, response);
    }
  };
}

test("a call that changes nothing is made again, whichever of several backends dies", async (t) => {
  const handler = endingAtFirstCalls(3, (router) =>
    router.service(SystemService, { getInfo: () => ({ name: "there" }) }),
  );
  const clients = await clientsOf(t, handler);
  assert.equal((await clients.system.getInfo({})).name, "there");
});

test("a terminal's size, which a client tells once, is told again", async (t) => {
  const sizes: number[] = [];
  const resize = ({ height }: { readonly height: number }) => {
    sizes.push(height);
    return {};
  };
  const handler = endingAtFirstCalls(2, (router) => {
    router
      .service(ContainerService, { resizeContainer: resize })
      .service(ExecService, { resizeExec: resize });
  });
  const clients = await clientsOf(t, handler);
  await clients.containers.resizeContainer({ height: 40 });
  await clients.execs.resizeExec({ height: 41 });
  assert.deepEqual(sizes, [40, 41]);
});

test("a call without a token is not made again", async (t) => {
  const { tokens, handler } = endingBackend(1);
  const clients = await clientsOf(t, handler);
  await assert.rejects(clients.containers.startContainer({ container: "c" }), { code: Code.Unavailable });
  assert.deepEqual(tokens, ["lost"]);
});

test("a call is not made again once its frontend ends", async (t) => {
  const calls: string[] = [];
  const called = Promise.withResolvers<void>();
  const backend = await dialled(t, ({ url }) => {
    if (calls.push(url) === 2) {
      called.resolve();
    }
  });
  const { containers, system } = createBackendClients(backend.transport);
  const start = containers.startContainer({ container: "c", clientToken: "token" });
  const info = system.getInfo({});
  await called.promise;
  backend.close();
  for (const call of [start, info]) {
    await assert.rejects(call, { code: Code.Unavailable, rawMessage: "the frontend is shutting down" });
  }
  assert.equal(calls.length, 2);
});

test("a caller that leaves is told so at once, and so is the backend", async (t) => {
  const told = Promise.withResolvers<void>();
  const called = Promise.withResolvers<void>();
  const clients = await clientsOf(
    t,
    fromLibrary((router) =>
      router.service(SystemService, {
        getInfo: async (_, { signal }) => {
          called.resolve();
          await once(signal, "abort");
          told.resolve();
          return {};
        },
      }),
    ),
  );
  const leave = new AbortController();
  const answer = clients.system.getInfo({}, { signal: leave.signal });
  await called.promise;
  leave.abort(new Error("enough"));
  await assert.rejects(answer, { code: Code.Canceled, rawMessage: "enough" });
  await told.promise;
  await assert.rejects(clients.system.getInfo({}, { signal: leave.signal }), { code: Code.Canceled });
});

test("a backend that goes before it has answered is unavailable, whatever it had begun to say", async (t) => {
  const ok = { ":status": 200, "content-type": "application/proto" };
  const error = { ":status": 409, "content-type": "application/json" };
  const beginnings: readonly ((response: Http2ServerResponse) => void)[] = [
    () => {},
    (response) => response.stream.respond({ ...ok, "content-length": 3 }),
    ...[
      [{ ...ok, "content-length": 9 }, "\n\u0001A"], // A field that is whole, of a message that is not.
      [ok, "\n\u0001A"], // A message that may be the beginning of a longer one.
      [{ ...error, "content-length": 99 }, '{"code":"already_exists"'],
    ].map(([headers, body]) => (response: Http2ServerResponse) => {
      response.stream.respond(headers as typeof ok);
      response.stream.write(body as string);
    }),
  ];
  for (const begin of beginnings) {
    const clients = await clientsOf(t, (request, response) => {
      begin(response);
      setImmediate(() => request.stream.session?.destroy());
    });
    await assert.rejects(clients.containers.createContainer({}), (error) => {
      assert.equal(fromUnknown(error).kind, "unavailable");
      return true;
    });
  }
});

test("a request tells its length, without which a cut one would be a whole one", async (t) => {
  const lengths: unknown[] = [];
  const clients = await clientsOf(t, (request, response) => {
    lengths.push(request.headers["content-length"]);
    response.stream.close();
  });
  await assert.rejects(clients.containers.createContainer({ name: "name" }));
  await assert.rejects(clients.containers.createContainer({}));
  assert.deepEqual(lengths, ["6", "0"]);
});

test("a request of a call without side effects is in its header, unless that would be too long", async (t) => {
  const asked: string[] = [];
  const library = fromLibrary((router) =>
    router.service(ContainerService, {
      inspectContainer: ({ container }) => ({ container: { name: container } }),
      renameContainer: () => ({}),
    }),
  );
  const { containers } = await clientsOf(t, (request, response) => {
    asked.push(`${request.method}, ${request.headers["content-length"] ?? "none"}`);
    library(request, response);
  });
  for (const name of ["a", "/ä?&=#", "n".repeat(8_000), "n".repeat(9_000), "n".repeat(900_000)]) {
    const { container } = await containers.inspectContainer({ container: name });
    assert.equal(container?.name, name);
  }
  await containers.renameContainer({ container: "a" });
  assert.deepEqual(asked, ["GET, none", "GET, none", "GET, none", "POST, 9003", "POST, 900004", "POST, 3"]);
});

test("a call without side effects is no GET where a backend of an earlier version takes none", async (t) => {
  const asked: (string | undefined)[] = [];
  const library = fromLibrary((router) =>
    router.service(ContainerService, { openLogs: ({ container }) => ({ tty: container === "a" }) }),
  );
  const { containers } = await clientsOf(t, (request, response) => {
    asked.push(request.method);
    if (request.method === "GET") {
      response.writeHead(405).end();
    } else {
      library(request, response);
    }
  });
  assert.equal((await containers.openLogs({ container: "a" })).tty, true);
  assert.deepEqual(asked, ["GET", "POST"]);
});

test("what answers and does not speak the protocol is an error with its status", async (t) => {
  const clients = await clientsOf(t, (_, response) => {
    response.writeHead(503, { "content-type": "text/html" });
    response.end("<html>Bad day</html>");
  });
  await assert.rejects(clients.system.getInfo({}), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([error.code, error.rawMessage], [Code.Unavailable, "HTTP 503"]);
    return true;
  });
});
