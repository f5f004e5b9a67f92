import assert from "node:assert/strict";
import { test } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

import { toConnectError } from "../../common/connect-error.ts";
import { notFound, unauthorized } from "../../common/errors.ts";
import {
  ImageService,
  type ImportImageFromUrlResponseSchema,
  type ImportOpen,
  type LoadImageResponseSchema,
  type PullImageRequest,
  type PullImageResponseSchema,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { RawClient } from "../../../test/support/raw-client.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";
import { until } from "../../../test/support/until.ts";

type PullMessages = AsyncGenerator<MessageInitShape<typeof PullImageResponseSchema>>;
type ImportMessages = AsyncGenerator<MessageInitShape<typeof ImportImageFromUrlResponseSchema>>;
type LoadMessages = AsyncGenerator<MessageInitShape<typeof LoadImageResponseSchema>>;

const digest = `sha256:${"1".repeat(64)}`;

test("a search is refused with its name and the backend's", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(SystemService, { getCapabilities: () => ({ backend: "ecs" }) }),
  );
  const response = await api.call("GET", "/images/search?term=busybox");
  assert.equal(response.status, 501);
  assert.deepEqual(response.json(), {
    message: 'sockerless: docker search is not implemented by backend "ecs"',
  });
  for (const filter of ["stars=a", "is-automated=a", "is-official=a"]) {
    const [key = "", value] = filter.split("=");
    const filters = encodeURIComponent(JSON.stringify({ [key]: [value] }));
    const refused = await api.call("GET", `/images/search?term=busybox&filters=${filters}`);
    assert.equal(refused.status, 400);
    assert.deepEqual(refused.json(), { message: `invalid filter '${filter}'` });
  }
});

test("a pull is told line by line as the CLI draws it", async (t) => {
  let received: PullImageRequest | undefined;
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *pullImage(request): PullMessages {
        received = request;
        yield { message: { case: "progress", value: { id: "1", status: "Pulling from library/busybox" } } };
        yield { message: { case: "heartbeat", value: {} } };
        const layer = { id: "0123456789ab" };
        const downloading = { ...layer, status: "Downloading", current: 512n, total: 1024n };
        const more = [downloading, { status: `Digest: ${digest}` }];
        yield { message: { case: "progress", value: { ...layer, status: "Pulling fs layer", more } } };
        yield { message: { case: "end", value: { imageId: digest, digest } } };
      },
    }),
  );
  const auth = Buffer.from('{"username":"me","password":"p\u00e4ss"}').toString("base64url");
  const padded = auth.padEnd(Math.ceil(auth.length / 4) * 4, "=");
  const response = await api.call("POST", "/images/create?fromImage=busybox&tag=1", {
    headers: { "X-Registry-Auth": padded },
  });
  assert.equal(response.status, 200);
  assert.equal(response.headers["content-type"], "application/json");
  assert.deepEqual(linesOf(response.text), [
    { status: "Pulling from library/busybox", id: "1" },
    { status: "Pulling fs layer", progressDetail: {}, id: "0123456789ab" },
    {
      status: "Downloading",
      progressDetail: { current: 512, total: 1024 },
      progress: "[=========================>                         ]     512B/1.024kB",
      id: "0123456789ab",
    },
    { status: `Digest: ${digest}` },
  ]);
  assert.equal(received?.reference, "busybox:1");
  assert.equal(received?.auth?.username, "me");
  assert.equal(received?.auth?.password, "p\u00e4ss");
});

test("references of a pull are put together as dockerd does", async (t) => {
  const references: string[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *pullImage({ reference }): PullMessages {
        references.push(reference);
        yield { message: { case: "end", value: {} } };
      },
    }),
  );
  const cases = [
    ["fromImage=a:1&tag=2", "a:2"],
    ["fromImage=r:5000/a/b&tag=2", "r:5000/a/b:2"],
    [`fromImage=a:1&tag=${digest}`, `a@${digest}`],
    [`fromImage=a@${digest}`, `a@${digest}`],
  ];
  for (const [query] of cases) {
    assert.equal((await api.call("POST", `/images/create?${query}`)).status, 200);
  }
  assert.deepEqual(
    references,
    cases.map(([, expected]) => expected),
  );
});

test("a pull without a tag is one of all tags, whichever way it is written", async (t) => {
  const asked: PullImageRequest[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *pullImage(request): PullMessages {
        asked.push(request);
        yield { message: { case: "end", value: {} } };
      },
    }),
  );
  for (const query of ["fromImage=a", "fromImage=a:", "fromImage=r:5000/a", "fromImage=a&tag=1"]) {
    assert.equal((await api.call("POST", `/images/create?${query}`)).status, 200, query);
  }
  assert.deepEqual(
    asked.map(({ reference, allTags }) => [reference, allTags]),
    [
      ["a", true],
      ["a", true],
      ["r:5000/a", true],
      ["a:1", false],
    ],
  );
});

test("a pull that fails before its first line has a status, later the error is in band", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *pullImage({ reference }): PullMessages {
        if (reference === "late:1") {
          yield { message: { case: "progress", value: { id: "1", status: "Pulling from library/late" } } };
        }
        throw toConnectError(reference === "late:1" ? unauthorized("no") : notFound("pull access denied"));
      },
    }),
  );
  const early = await api.call("POST", "/images/create?fromImage=early&tag=1");
  assert.equal(early.status, 404);
  assert.deepEqual(early.json(), { message: "pull access denied" });
  const late = await api.call("POST", "/images/create?fromImage=late&tag=1");
  assert.equal(late.status, 200);
  assert.deepEqual(linesOf(late.text)[1], { errorDetail: { message: "no" }, error: "no" });
});

test("a pull whose end never came is an error", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *pullImage(): PullMessages {
        yield { message: { case: "progress", value: { status: "Downloading" } } };
      },
    }),
  );
  const response = await api.call("POST", "/images/create?fromImage=a&tag=1");
  assert.match(String(linesOf(response.text)[1]?.["error"]), /without telling its result/);
});

test("a load passes every byte and tells the names of what it loaded", async (t) => {
  const sent = Buffer.alloc(300_000, "tar");
  let received = Buffer.alloc(0);
  let complete = false;
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *loadImage(requests): LoadMessages {
        for await (const { message } of requests) {
          if (message.case === "chunk") {
            received = Buffer.concat([received, message.value]);
          }
          complete ||= message.case === "end";
        }
        yield { message: { case: "progress", value: { id: "0123456789ab", status: "Loading layer" } } };
        yield { message: { case: "progress", value: { status: "The image a:1 already exists" } } };
        yield { message: { case: "loaded", value: { reference: "a:1", imageId: digest } } };
        yield { message: { case: "loaded", value: { imageId: digest } } };
        yield { message: { case: "end", value: {} } };
      },
    }),
  );
  const headers = { "Content-Type": "application/x-tar" };
  const response = await api.call("POST", "/images/load?quiet=1", { body: sent, headers });
  assert.equal(response.status, 200);
  assert.deepEqual(linesOf(response.text), [
    { stream: "The image a:1 already exists\n" },
    { stream: "Loaded image: a:1\n" },
    { stream: `Loaded image ID: ${digest}\n` },
  ]);
  assert.ok(received.equals(sent));
  assert.equal(complete, true);
  const loud = await api.call("POST", "/images/load?quiet=0", { body: sent, headers });
  assert.deepEqual(linesOf(loud.text)[0], {
    status: "Loading layer",
    progressDetail: {},
    id: "0123456789ab",
  });
});

test("a load that is refused half-way says so in band", async (t) => {
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      // biome-ignore lint/correctness/useYield: it fails before it has anything to tell.
      async *loadImage(): LoadMessages {
        throw toConnectError(notFound("invalid archive"));
      },
    }),
  );
  const response = await api.call("POST", "/images/load", { body: Buffer.alloc(10_000_000) });
  assert.equal(response.status, 200);
  assert.deepEqual(linesOf(response.text), [
    { errorDetail: { message: "invalid archive" }, error: "invalid archive" },
  ]);
});

test("an import of a URL is told as dockerd does; before its first line a failure has a status", async (t) => {
  const asked: string[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *importImageFromUrl({ url, image }): ImportMessages {
        asked.push(`${url} ${image?.reference} ${image?.comment}`);
        if (url === "absent") {
          throw toConnectError(notFound("failed to GET"));
        }
        yield { message: { case: "progress", value: { status: `Downloading from http://${url}` } } };
        yield { message: { case: "heartbeat", value: {} } };
        if (url === "cut") {
          throw toConnectError(unauthorized("no"));
        }
        yield { message: { case: "progress", value: { status: "Importing", current: 1024n, total: 1024n } } };
        yield { message: { case: "end", value: { imageId: digest } } };
      },
    }),
  );
  const whole = await api.call("POST", "/images/create?fromSrc=host/a.tar&repo=base&tag=1");
  assert.deepEqual(linesOf(whole.text), [
    { status: "Downloading from http://host/a.tar" },
    {
      status: "Importing",
      progressDetail: { current: 1024, total: 1024 },
      progress: "[==================================================>]  1.024kB/1.024kB",
    },
    { status: digest },
  ]);
  assert.deepEqual(asked, ["host/a.tar base:1 Imported from host/a.tar"]);
  assert.equal((await api.call("POST", "/images/create?fromSrc=absent")).status, 404);
  const cut = await api.call("POST", "/images/create?fromSrc=cut");
  assert.equal(cut.status, 200);
  assert.deepEqual(linesOf(cut.text).at(-1), { errorDetail: { message: "no" }, error: "no" });
});

for (const target of ["create?fromSrc=host/a.tar", "create?fromImage=a", "a/push"]) {
  test(`a client that leaves behind a body that images/${target} does not read is noticed`, async (t) => {
    let left = false;
    const messages = async function* (_: unknown, { signal }: HandlerContext): AsyncGenerator<object> {
      yield { message: { case: "progress", value: { status: "begun" } } };
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      left = true;
    };
    const api = await serveApi(t, (router) =>
      router.service(ImageService, {
        importImageFromUrl: messages,
        pullImage: messages,
        pushImage: messages,
      }),
    );
    const client = new RawClient(api.socket);
    client.send(`POST /images/${target} HTTP/1.1\r\nHost: d\r\nContent-Length: 10000000\r\n\r\n`);
    client.send(Buffer.alloc(1024 ** 2));
    await client.answered();
    await until(() => client.socket.writableLength === 0 || undefined);
    client.close();
    await until(() => left || undefined);
  });
}

test("an import of the body goes through a backend that names no other place, and names the image", async (t) => {
  let open: ImportOpen | undefined;
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      async *receiveImage() {
        yield { message: { case: "ready" as const, value: {} } };
      },
      importImage: async (requests) => {
        for await (const { message } of requests) {
          open = message.case === "open" ? message.value : open;
        }
        return { imageId: digest };
      },
    }),
  );
  const response = await api.call(
    "POST",
    "/images/create?fromSrc=-&repo=base&tag=1&changes=CMD+sh&changes=ENV+A%3D1",
    { body: "tar" },
  );
  assert.deepEqual(linesOf(response.text), [{ status: digest }]);
  assert.equal(open?.reference, "base:1");
  assert.equal(open?.comment, "Imported from -");
  assert.deepEqual(open?.changes, ["CMD sh", "ENV A=1"]);
});

test("images in a list and an inspect are as described", async (t) => {
  const image = { id: digest, size: 5n, labels: { a: "b" }, created: { seconds: 1n, nanos: 0 } };
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      listImages: () => ({ images: [{ ...image, repoTags: ["a:1"] }, { ...image }] }),
      inspectImage: ({ image: name }) => ({
        image: {
          ...image,
          comment: name,
          platform: { os: "linux", architecture: "amd64" },
          config: { env: ["PATH=/bin"], cmd: { values: ["sh"] }, exposedPorts: ["80/tcp"] },
          diffIds: [digest],
          driver: "overlay2",
        },
      }),
    }),
  );
  const list = await api.call("GET", "/images/json");
  assertDescribed("get", "/images/json", 200, list.json());
  const old = (await api.call("GET", "/v1.42/images/json")).json() as Record<string, unknown>[];
  assert.deepEqual(old[1]?.["RepoTags"], ["<none>:<none>"]);
  assert.equal(old[0]?.["VirtualSize"], 5);
  const inspect = await api.call("GET", "/images/registry:5000/a%2Fb/json");
  assertDescribed("get", "/images/{name}/json", 200, inspect.json());
  assert.equal((inspect.json() as Record<string, unknown>)["Comment"], "registry:5000/a/b");
  assert.equal("Hostname" in configOf(inspect.json()), false);
  assert.equal("Hostname" in configOf((await api.call("GET", "/v1.49/images/a/json")).json()), true);
});

test("a removal tells what was untagged and what was deleted", async (t) => {
  const platforms: (string | undefined)[] = [];
  const api = await serveApi(t, (router) =>
    router.service(ImageService, {
      removeImage: ({ platform }) => {
        platforms.push(platform?.architecture);
        return {
          removed: [
            { what: { case: "untagged", value: "a:1" } },
            { what: { case: "deleted", value: digest } },
          ],
        };
      },
    }),
  );
  const response = await api.call("DELETE", "/images/a:1");
  assertDescribed("delete", "/images/{name}", 200, response.json());
  assert.deepEqual(response.json(), [{ Untagged: "a:1" }, { Deleted: digest }]);
  const query = `platforms=${encodeURIComponent('{"os":"linux","architecture":"arm64"}')}`;
  assert.equal((await api.call("DELETE", `/v1.50/images/a:1?${query}`)).status, 200);
  assert.equal((await api.call("DELETE", `/v1.49/images/a:1?${query}`)).status, 200);
  assert.deepEqual(platforms, [undefined, "arm64", undefined]);
  const several = await api.call("DELETE", `/v1.50/images/a:1?${query}&${query}`);
  assert.equal(several.status, 400);
  assert.deepEqual(several.json(), { message: "multiple platforms are not supported" });
  const none = await api.call("DELETE", "/v1.50/images/a:1?platforms=%7B%7D");
  assert.equal(none.status, 400);
  assert.deepEqual(none.json(), { message: "both OS and Architecture must be provided" });
});

function configOf(image: unknown): Record<string, unknown> {
  return (image as { readonly Config: Record<string, unknown> }).Config;
}

function linesOf(text: string): Record<string, unknown>[] {
  return text
    .split("\r\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
