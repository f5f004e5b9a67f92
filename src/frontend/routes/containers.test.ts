import assert from "node:assert/strict";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";

import { toConnectError } from "../../common/connect-error.ts";
import { conflict, notModified } from "../../common/errors.ts";
import {
  ContainerService,
  ContainerStatus,
  type CreateContainerRequest,
  WaitCondition,
  type WaitContainerRequest,
  type WaitContainerResponseSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import { NetworkService } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { VolumeService } from "../../gen/sockerless/backend/v1/volume_pb.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { callApi } from "../../../test/support/call-api.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";
import { untilTrue } from "../../../test/support/until.ts";

type WaitMessages = AsyncGenerator<MessageInitShape<typeof WaitContainerResponseSchema>>;

const id = "4e7d".padEnd(64, "0");

test("a created container is answered with its ID and all warnings, and the backend gets what the body says", async (t) => {
  let received: CreateContainerRequest | undefined;
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      createContainer: (request) => {
        received = request;
        return { id, warnings: ["from the backend"] };
      },
    }),
  );
  const response = await api.call("POST", "/v1.51/containers/create?name=web", {
    body: { Image: "nginx", MacAddress: "02:42:ac:11:00:02", HostConfig: { NetworkMode: "default" } },
  });
  assert.equal(response.status, 201);
  const body = response.json() as { readonly Warnings: string[] };
  assertDescribed("post", "/containers/create", 201, body);
  assert.deepEqual(body.Warnings, [
    "from the backend",
    "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.",
  ]);
  assert.equal(received?.name, "web");
  assert.equal(received?.config?.image, "nginx");
  assert.equal(received?.hostConfig?.networkMode, "bridge");
  assert.equal(received?.networking?.endpoints["bridge"]?.macAddress, "02:42:ac:11:00:02");
  assert.match(received?.clientToken ?? "", /^[0-9a-f-]{36}$/);
});

test("a create that is wrong is refused before the backend hears of it", async (t) => {
  const api = await serveApi(t, () => {});
  const cases = [
    { body: "{", message: "invalid JSON: unexpected EOF" },
    { body: "", message: "invalid JSON: got EOF while reading request body" },
    { body: "{}", message: "config cannot be empty in order to create a container" },
    { body: '{"Image":"x"}{"a":1}', message: "unexpected content after JSON" },
    {
      body: '{"Image":"x","HostConfig":{"Memory":"1g"}}',
      message:
        "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.HostConfig.Memory of type int64",
    },
  ];
  for (const { body, message } of cases) {
    const headers = { "Content-Type": "application/json" };
    const response = await api.call("POST", "/containers/create", { body, headers });
    assert.deepEqual({ status: response.status, body: response.json() }, { status: 400, body: { message } });
  }
});

test("a body beyond 4 MiB is refused, and the connection stays usable for the answer", async (t) => {
  const api = await serveApi(t, () => {});
  const body = `{"Image":"${"x".repeat(5 * 1024 ** 2)}"}`;
  const whole = await api.call("POST", "/containers/create", { body });
  assert.equal(whole.status, 400);
  assert.match(whole.text, /request body too large/);
  const chunked = await api.call("POST", "/containers/create", {
    body,
    headers: { "Transfer-Encoding": "chunked" },
  });
  assert.equal(chunked.status, 400);
  assert.match(chunked.text, /request body too large/);
});

test("a wrong content type is named in the refusal", async (t) => {
  const api = await serveApi(t, () => {});
  const response = await api.call("POST", "/containers/create", {
    body: "{}",
    headers: { "Content-Type": "text/plain" },
  });
  assert.deepEqual(response.json(), {
    message: "unsupported Content-Type header (text/plain): must be 'application/json'",
  });
});

test("a list is as described and never null", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      listContainers: ({ all }) => ({
        containers: all
          ? [
              {
                id,
                names: ["/web"],
                image: "nginx",
                imageId: "sha256:1",
                path: "nginx",
                args: ["-g", "daemon off;"],
                created: { seconds: 1_700_000_000n, nanos: 0 },
                ports: [{ ip: "0.0.0.0", privatePort: 80, publicPort: 8080, type: "tcp" }],
                state: { status: ContainerStatus.CREATED },
                networkMode: "bridge",
                annotations: { a: "b" },
                networks: { bridge: { ipAddress: "172.17.0.2" } },
              },
            ]
          : [],
      }),
    }),
  );
  const none = await api.call("GET", "/containers/json");
  assert.equal(none.text, "[]\n");
  const all = await api.call("GET", "/containers/json?all=1");
  assertDescribed("get", "/containers/json", 200, all.json());
  const [first] = all.json() as Record<string, unknown>[];
  assert.equal(first?.["Command"], "nginx -g 'daemon off;'");
  assert.deepEqual(first?.["HostConfig"], { NetworkMode: "bridge", Annotations: { a: "b" } });
  const [older] = (await api.call("GET", "/v1.45/containers/json?all=1")).json() as Record<string, unknown>[];
  assert.deepEqual(older?.["HostConfig"], { NetworkMode: "bridge" });
});

test("a start of a running container is 304 without a body", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      startContainer: () => {
        throw toConnectError(notModified(""));
      },
    }),
  );
  const response = await api.call("POST", "/containers/web/start");
  assert.equal(response.status, 304);
  assert.equal(response.text, "");
});

test("a kill's error says which kill it was, once", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      killContainer: ({ container }) => {
        throw toConnectError(conflict(`container ${container} is not running`));
      },
    }),
  );
  const response = await api.call("POST", "/containers/web/kill");
  assert.equal(response.status, 409);
  assert.deepEqual(response.json(), {
    message: "cannot kill container: web: container web is not running",
  });
});

test("a wait answers its header once it stands and its body at the exit", async (t) => {
  const exit = Promise.withResolvers<void>();
  let received: WaitContainerRequest | undefined;
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      async *waitContainer(request): WaitMessages {
        received = request;
        yield { message: { case: "accepted", value: { id } } };
        await exit.promise;
        yield { message: { case: "heartbeat", value: {} } };
        yield { message: { case: "exited", value: { exitCode: 137n } } };
      },
    }),
  );
  const outgoing = httpRequest({
    socketPath: api.socket,
    method: "POST",
    path: "/containers/web/wait?condition=next-exit",
    agent: false,
  });
  const headerCame = new Promise<IncomingMessage>((resolve) => outgoing.on("response", resolve));
  outgoing.end();
  const response = await headerCame;
  assert.equal(response.statusCode, 200);
  assert.equal(received?.condition, WaitCondition.NEXT_EXIT);
  exit.resolve();
  const chunks = await response.toArray();
  assert.equal(Buffer.concat(chunks as Buffer[]).toString(), '{"StatusCode":137}\n');
});

test("a wait that the backend cuts never looks like an exit", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      async *waitContainer(): WaitMessages {
        yield { message: { case: "accepted", value: { id } } };
      },
    }),
  );
  await assert.rejects(callApi(api.socket, "POST", "/containers/web/wait"), { code: "ECONNRESET" });
});

test("a client that leaves a wait ends the backend's call", async (t) => {
  const accepted = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      async *waitContainer(_request, { signal }): WaitMessages {
        signal.addEventListener("abort", () => ended.resolve());
        accepted.resolve();
        yield { message: { case: "accepted", value: { id } } };
        await ended.promise;
      },
    }),
  );
  const client = connect(api.socket);
  client.write("POST /containers/web/wait HTTP/1.1\r\nHost: docker\r\n\r\n");
  await accepted.promise;
  client.destroy();
  await ended.promise;
});

test("what is not built is refused with the feature and the backend", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(SystemService, { getCapabilities: () => ({ backend: "local" }) }),
  );
  const response = await api.call("POST", "/build/cancel");
  assert.equal(response.status, 501);
  assert.deepEqual(response.json(), {
    message: 'sockerless: the cancellation of a build is not implemented by backend "local"',
  });
});

test("the backend is told of each change whose client has left before it was answered", async (t) => {
  let called = Promise.withResolvers<AbortSignal>();
  const wait = async (_request: unknown, { signal }: HandlerContext) => {
    called.resolve(signal);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    return {};
  };
  const clock = new ManualClock();
  const backend = (router: ConnectRouter) => {
    router.service(ContainerService, {
      ...{ startContainer: wait, stopContainer: wait, restartContainer: wait, killContainer: wait },
      ...{ pauseContainer: wait, unpauseContainer: wait, removeContainer: wait },
      ...{ renameContainer: wait, updateContainer: wait },
    });
    router.service(NetworkService, {
      ...{ connectNetwork: wait, disconnectNetwork: wait, removeNetwork: wait },
    });
    router.service(VolumeService, { createVolume: wait, removeVolume: wait });
  };
  const api = await serveApi(t, backend, undefined, undefined, clock);
  const verbs = ["start", "stop", "restart", "kill", "pause", "unpause", "rename?name=other", "update"];
  for (const request of [
    ...verbs.map((verb) => `POST /containers/web/${verb}`),
    ...["POST /networks/net/connect", "POST /networks/net/disconnect", "POST /volumes/create"],
    ...["DELETE /containers/web", "DELETE /networks/net", "DELETE /volumes/data"],
  ]) {
    called = Promise.withResolvers();
    const client = connect(api.socket);
    const body = /update|connect|create/.test(request) ? JSON.stringify({ Container: "web" }) : "";
    client.write(
      `${request} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const signal = await called.promise;
    client.destroy();
    await untilTrue(async () => {
      await clock.advance(1_000);
      return signal.aborted;
    });
  }
});

test("containers are inspected while others start, however many clients wait for these", async (t) => {
  const started = Promise.withResolvers<void>();
  let isStarting = true;
  const api = await serveApi(t, (router) =>
    router.service(ContainerService, {
      inspectContainer: ({ container }) =>
        container === "starting" && isStarting ? {} : { container: { id, name: `/${container}` } },
      awaitStart: async () => {
        await started.promise;
        return {};
      },
    }),
  );
  const inspect = async (name: string) =>
    (await api.call("GET", `/containers/${name}/json`)).json() as { readonly Name?: string };
  const waiting = Array.from({ length: 10 }, () => inspect("starting"));
  assert.equal((await inspect("web")).Name, "/web");
  isStarting = false;
  started.resolve();
  for (const { Name } of await Promise.all(waiting)) {
    assert.equal(Name, "/starting");
  }
});
