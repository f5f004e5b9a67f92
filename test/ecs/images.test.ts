/** Images of the ECS backend, against a registry that wants ECR's token. */
import assert from "node:assert/strict";
import { beforeEach, describe, it, type TestContext } from "node:test";

import type { ECRClient } from "@aws-sdk/client-ecr";

import { taskImageOf } from "../../src/backends/ecs/ecr/task-image.ts";
import type { AwsService } from "../../src/backends/ecs/aws/clients.ts";
import type { CloudImages } from "../../src/backends/cloud/contract/platform.ts";
import { ecsImages } from "../../src/backends/ecs/images.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { fakeClient } from "../../src/backends/ecs/testing/fake-client.ts";
import { systemClock } from "../../src/common/clock.ts";
import { duringTests } from "../support/during-tests.ts";
import { openImageStore, streamOf, testRegistries, type TestImageStore } from "../support/image-store.ts";
import { blobOf, configBlob, dockerArchive, type FixtureImage, imageId } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { RegistryProxy } from "../support/registry-proxy.ts";
import { tarOf } from "../support/tar.ts";
import { scratchDirectory } from "../support/scratch.ts";

const signal = new AbortController().signal;
/** A pull without options. */
const plain = { platform: undefined, auth: undefined, report: () => {}, signal };
const registryOptions = { ...testRegistries, silenceMs: 10_000 };

describe("images on ECS", () => {
  const ecrRegistry = duringTests(() => TestRegistry.start({ credentials: true }));
  const hub = duringTests(() => TestRegistry.start());
  const stateDir = scratchDirectory();
  let password: string;
  let deleted: unknown[];
  const ecr = fakeClient<AwsService<ECRClient>>({
    GetAuthorizationToken: () => ({
      authorizationData: [
        {
          authorizationToken: Buffer.from(`${registryUser.username}:${password}`).toString("base64"),
          expiresAt: new Date(Date.now() + 12 * 3_600_000),
        },
      ],
    }),
    BatchDeleteImage: ({ imageIds }) => {
      deleted.push(imageIds);
      return {};
    },
  });

  beforeEach(() => {
    password = registryUser.password;
    deleted = [];
    ecr.calls.length = 0;
  });

  const uri = (): string => `${ecrRegistry.host}/sockerless`;
  function imagesOf(more: Partial<Parameters<typeof ecsImages>[0]> = {}): CloudImages {
    return ecsImages({
      aws: { ecr: ecr.client, ecrIn: () => ecr.client },
      ecrRepository: uri(),
      registry: registryOptions,
      stateDir,
      instance: "one",
      clock: systemClock,
      logger: capturedLogger().logger,
      ...more,
    });
  }
  const open = (context: TestContext, preparer = imagesOf()): Promise<TestImageStore> =>
    openImageStore(context, { preparer, credentialsFor: (domain) => preparer.credentialsFor(domain) });

  async function image(text: string): Promise<FixtureImage> {
    return {
      layers: [await tarOf([{ name: "base" }]), await tarOf([{ name: "top", content: text }])],
      config: { Labels: { text } },
    };
  }
  async function load(store: TestImageStore, wanted: FixtureImage): Promise<string> {
    const archive = streamOf(await dockerArchive([{ image: wanted, tags: ["helper:1"] }]));
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    return store.state.images.get(imageId(wanted))?.driverReference ?? "";
  }
  /** ID of the image that a reference leads to, by an ordinary client. */
  async function pulled(context: TestContext, reference: string): Promise<string | undefined> {
    const store = await openImageStore(context);
    const auth = { ...registryUser, identityToken: "", registryToken: "" };
    await store.images.pulls.pull({ reference, platform: undefined, auth, report: () => {}, signal });
    return store.images.containers.idOf(reference);
  }

  it("are refused with the action and the repository where nobody may look for their layers", async (context) => {
    await using proxy = await RegistryProxy.start(ecrRegistry.host);
    proxy.intercept = ({ method, url }, response) => {
      const isLook = method === "HEAD" && url?.includes("/blobs/") === true;
      if (isLook) {
        response.writeHead(403).end(); // An answer to HEAD has no body.
      }
      return isLook;
    };
    const store = await open(context, imagesOf({ ecrRepository: `${proxy.host}/sockerless` }));
    await assert.rejects(load(store, await image("unseen")), (error: Error) => {
      assert.match(error.message, /ecr:BatchCheckLayerAvailability/);
      assert.ok(error.message.startsWith(`${proxy.host}/sockerless: denied: `), error.message);
      return true;
    });
  });

  it("that were pulled run from where they came, of the platform that was chosen", async (context) => {
    const wanted = await image("pulled");
    await hub.push("library/app", "1", wanted);
    const store = await open(context);
    const reference = `${hub.host}/library/app:1`;
    await store.images.pulls.pull({ reference, ...plain });
    const record = store.state.images.get(imageId(wanted));
    assert.equal(record?.driverReference, `${hub.host}/library/app@${record?.manifestDigest}`);
    assert.equal(await pulled(context, record?.driverReference ?? ""), imageId(wanted));
    assert.deepEqual(ecr.calls, []);
  });

  it("that were loaded are put into the ECR repository, layers and all", async (context) => {
    const wanted = await image("loaded");
    const reference = await load(await open(context), wanted);
    assert.match(reference, new RegExp(`^${uri()}@sha256:[0-9a-f]{64}$`));
    assert.equal(await pulled(context, reference), imageId(wanted));
  });

  it("stay runnable when their layers were fetched for something else", async (context) => {
    const wanted = await image("fetched");
    await hub.push("fetched", "1", wanted);
    const store = await open(context);
    const reference = `${hub.host}/fetched:1`;
    await store.images.pulls.pull({ reference, ...plain });
    for await (const _ of store.images.archives.save([reference], undefined, signal)) {
      // Only the fetching matters.
    }
    const before = store.state.images.get(imageId(wanted))?.driverReference;
    const again = await store.reopen();
    const { record } = await again.images.containers.resolve(reference);
    await again.images.containers.makeRunnable(record, signal);
    assert.equal(again.state.images.get(imageId(wanted))?.driverReference, before);
  });

  it("are put there again by a later process where somebody removed them", async (context) => {
    const wanted = await image("again");
    const store = await open(context);
    const reference = await load(store, wanted);
    const other = imagesOf({ ecrRepository: `${ecrRegistry.host}/elsewhere` });
    const record = store.state.images.get(imageId(wanted));
    assert.ok(record);
    const blobs = (digest: string): string => `${store.directory}/blobs/sha256/${digest.slice(7)}`;
    const moved = await other.prepare({ ...record, driverReference: "" }, blobs, signal);
    assert.match(moved, /\/elsewhere@/);
    assert.equal(await imagesOf().prepare(record, blobs, signal), reference);
  });

  it("of builds on one that was pulled fetch its layers once, and go there when one is run", async (context) => {
    const base = await image("base");
    await hub.push("library/base", "1", base);
    await using proxy = await RegistryProxy.start(hub.host);
    const store = await open(context);
    const reference = `${proxy.host}/library/base:1`;
    await store.images.pulls.pull({ reference, ...plain });
    proxy.requests.length = 0;
    const states = await Promise.all(["one", "two"].map((text) => stateOn(base, text)));
    await Promise.all(
      states.map(({ archive }) => {
        const request = { archive: streamOf(archive), platform: undefined, ofBuild: true };
        return store.images.archives.load({ ...request, report: () => {}, signal });
      }),
    );
    const fetched = proxy.requests.filter((request) => request.startsWith("GET /v2/library/base/blobs/"));
    assert.equal(fetched.length, base.layers.length);
    const [{ id } = { id: "" }] = states;
    const record = () => store.state.images.get(id) ?? assert.fail("the state is there");
    await store.images.containers.makeReady(record(), signal);
    assert.equal(record().driverReference, "");
    await store.images.containers.makeRunnable(record(), signal);
    assert.match(record().driverReference, new RegExp(`^${uri()}@`));
    assert.equal(await pulled(context, record().driverReference), id);
  });

  /** An image of one layer more, and its archive, which has that layer alone. */
  async function stateOn(
    base: FixtureImage,
    text: string,
  ): Promise<{ readonly id: string; readonly archive: Buffer }> {
    const layer = await tarOf([{ name: text, content: text }]);
    const state = { ...base, layers: [...base.layers, layer], config: { Labels: { of: text } } };
    const Layers = state.layers.map((each) => blobOf(each).digest);
    const archive = await tarOf([
      { name: "config.json", content: configBlob(state).bytes },
      { name: blobOf(layer).digest, content: layer },
      { name: "manifest.json", content: JSON.stringify([{ Config: "config.json", RepoTags: null, Layers }]) },
    ]);
    return { id: imageId(state), archive };
  }

  it("are not taken in where there is no repository to put them into", async (context) => {
    const store = await open(context, imagesOf({ ecrRepository: undefined }));
    await assert.rejects(load(store, await image("nowhere")), {
      kind: "invalid",
      message: /set ecs\.ecr_repository/,
    });
    assert.equal(store.state.images.size, 0);
  });

  it("are removed from the repository when they are removed, the name of this instance only", async (context) => {
    const store = await open(context);
    const wanted = await image("removed");
    await load(store, wanted);
    await store.images.removal.remove("helper:1", false);
    const [[{ imageTag = "" } = {}] = []] = deleted as { imageTag?: string }[][];
    assert.match(imageTag, new RegExp(`^image-${imageId(wanted).slice(7)}-[0-9a-f]{12}$`));
  });

  it("ask for one token, and for another when it is refused", async (context) => {
    const preparer = imagesOf();
    const store = await open(context, preparer);
    await load(store, await image("one"));
    await load(store, await image("two"));
    assert.equal(ecr.made("GetAuthorizationToken").length, 1);
    password = "stale";
    const stale = imagesOf();
    await stale.credentialsFor(ecrRegistry.host);
    password = registryUser.password;
    await load(await open(context, stale), await image("three"));
    assert.equal(ecr.made("GetAuthorizationToken").length, 3);
  });

  it("are pulled from ECR without a login of the client", async (context) => {
    const wanted = await image("in-ecr");
    await ecrRegistry.push("team/app", "1", wanted);
    const preparer = imagesOf();
    const asked: string[] = [];
    const store = await openImageStore(context, {
      preparer,
      credentialsFor: (domain) => {
        asked.push(domain);
        return preparer.credentialsFor(domain);
      },
    });
    const reference = `${ecrRegistry.host}/team/app:1`;
    const pull = { reference, ...plain };
    await store.images.pulls.pull(pull);
    assert.equal(store.images.containers.idOf(reference), imageId(wanted));
    await store.images.pulls.pull(pull);
    assert.deepEqual(asked, [ecrRegistry.host, ecrRegistry.host], "a token is good for twelve hours only");
    await assert.rejects(
      store.images.pulls.pull({ ...pull, withoutOwnAuth: true }),
      /unauthorized|authentication required|no basic auth credentials/i,
    );
    assert.equal(asked.length, 2);
  });

  it("of a private repository are not pulled by another's login, and are saved and pushed all the same", async (context) => {
    const wanted = await image("private");
    await ecrRegistry.push("private/app", "1", wanted);
    const store = await open(context, imagesOf({ ecrRepository: undefined }));
    const reference = `${ecrRegistry.host}/private/app:1`;
    const auth = { ...registryUser, identityToken: "", registryToken: "" };
    const pull = { reference, platform: undefined, report: () => {}, signal };
    await store.images.pulls.pull({ ...pull, auth });
    const repository = { ...pull, reference: `${ecrRegistry.host}/private/app` };
    const refusal = /unauthorized|authentication required|no basic auth credentials/i;
    for (const none of [undefined, { ...auth, username: "", password: "" }]) {
      await assert.rejects(store.images.pulls.pull({ ...pull, auth: none }), refusal);
      await assert.rejects(store.images.pulls.pullAllTags({ ...repository, auth: none }), refusal);
      await assert.rejects(store.images.distribution.inspect(reference, none, signal), refusal);
    }
    let bytes = 0;
    for await (const piece of store.images.archives.save([reference], undefined, signal)) {
      bytes += piece.length;
    }
    assert.ok(bytes > 0);
  });

  it("are named to tasks with the cache and the secret that are configured for their registry", () => {
    const digest = `sha256:${"a".repeat(64)}`;
    const settings = {
      registryCredentials: ["ghcr.io=arn:aws:secretsmanager:eu-west-1:1:secret:ghcr"],
      pullThroughCaches: ["docker.io=1.dkr.ecr.eu-west-1.amazonaws.com/hub/"],
    };
    const imageAt = (driverReference: string) => taskImageOf({ id: "sha256:1", driverReference }, settings);
    assert.deepEqual(imageAt(`quay.io/app@${digest}`), {
      reference: `quay.io/app@${digest}`,
      credentialsArn: undefined,
    });
    assert.deepEqual(imageAt(`ghcr.io/me/app@${digest}`), {
      reference: `ghcr.io/me/app@${digest}`,
      credentialsArn: "arn:aws:secretsmanager:eu-west-1:1:secret:ghcr",
    });
    assert.deepEqual(imageAt(`docker.io/library/nginx@${digest}`), {
      reference: `1.dkr.ecr.eu-west-1.amazonaws.com/hub/library/nginx@${digest}`,
      credentialsArn: undefined,
    });
    assert.throws(() => imageAt(""), { kind: "conflict" });
  });
});
