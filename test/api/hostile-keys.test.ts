/** Keys that every object of JavaScript inherits are plain keys wherever a client or an image chooses keys. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { backendUnderTest, quickestNetwork } from "../support/backend-under-test.ts";
import { busyboxImage, dockerArchive } from "../support/images.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

const inherited = ["__proto__", "constructor", "hasOwnProperty", "prototype", "toString", "valueOf"];

/** The text of an object with all of those keys; a literal would set a prototype. */
const mapText = (value: (key: string) => unknown) =>
  `{${inherited.map((key) => `${JSON.stringify(key)}:${JSON.stringify(value(key))}`).join()}}`;
const map = (value: (key: string) => unknown) => JSON.parse(mapText(value)) as Record<string, unknown>;
/** A map's text whose keys are in order, or a list's. */
const sortedText = (value: object) =>
  Array.isArray(value) ? JSON.stringify(value) : JSON.stringify(Object.entries(value).toSorted());
const texts = map((key) => `of ${key}`);

describe("keys that objects inherit", () => {
  test("come back from a container as they were given", async () => {
    const body = `{"Image":"busybox","Cmd":["true"],"Labels":${mapText((key) => `of ${key}`)},
      "HostConfig":{"NetworkMode":"${quickestNetwork()}","Annotations":${mapText((key) => `of ${key}`)}}}`;
    const { Id } = await api.expect<{ Id: string }>(201, "POST", "/containers/create", Buffer.from(body));
    const { text } = await api.call("GET", `/containers/${Id}/json`);
    const told = JSON.parse(text) as { Config: { Labels: unknown }; HostConfig: { Annotations: unknown } };
    assert.equal(JSON.stringify(told.Config.Labels), JSON.stringify(texts));
    assert.equal(JSON.stringify(told.HostConfig.Annotations), JSON.stringify(texts));
    for (const key of inherited) {
      const filters = encodeURIComponent(JSON.stringify({ label: [`${key}=of ${key}`] }));
      const found = await api.expect<{ Id: string }[]>(
        200,
        "GET",
        `/containers/json?all=1&filters=${filters}`,
      );
      assert.deepEqual(
        found.map((each) => each.Id),
        [Id],
        key,
      );
      const network = encodeURIComponent(JSON.stringify({ network: [key] }));
      const on = await api.expect<unknown[]>(200, "GET", `/containers/json?all=1&filters=${network}`);
      assert.deepEqual(on, [], `no container is on a network ${key}`);
    }
    await api.remove(Id);
  });

  test("come back from volumes and networks, and name them", async () => {
    for (const [name, type] of [
      ["vol", "volumes"],
      ["net", "networks"],
    ] as const) {
      const body = `{"Name":"${name}","Labels":${mapText((key) => `of ${key}`)}}`;
      await api.expect(201, "POST", `/${type}/create`, Buffer.from(body));
      const { text } = await api.call("GET", `/${type}/${name}`);
      assert.equal(JSON.stringify((JSON.parse(text) as { Labels: unknown }).Labels), JSON.stringify(texts));
      await api.expect(204, "DELETE", `/${type}/${name}`);
    }
    const id = await api.create({ Cmd: ["sleep", "1000"], HostConfig: { NetworkMode: "bridge" } });
    await api.start(id);
    for (const name of ["constructor", "toString"]) {
      await api.expect(201, "POST", "/networks/create", { Name: name });
      await api.expect(200, "POST", `/networks/${name}/connect`, { Container: id });
      const { NetworkSettings } = await api.inspect(id);
      assert.ok(Object.hasOwn(NetworkSettings["Networks"] as object, name));
      await api.expect(200, "POST", `/networks/${name}/disconnect`, { Container: id });
      await api.expect(204, "DELETE", `/networks/${name}`);
    }
    for (const mode of ["__proto__", "hasOwnProperty"]) {
      await api
        .refuses(404, /network/, "POST", "/containers/create", {
          Image: "busybox",
          Cmd: ["true"],
          MacAddress: "02:00:00:00:00:01",
          HostConfig: { NetworkMode: mode },
        })
        .catch(async () => {
          const made = await api.create({ Cmd: ["true"], HostConfig: { NetworkMode: mode } });
          await api.refuses(404, /network/, "POST", `/containers/${made}/start`);
          await api.remove(made);
        });
    }
    await api.remove(id);
  });

  test("come back from the configuration of an image, and name it", async () => {
    const tar = await tarOf([{ name: "file", content: "x" }]);
    const changes = inherited.map((key) => `LABEL ${key}="of ${key}"`);
    const query = changes.map((change) => `&changes=${encodeURIComponent(change)}`).join("");
    const answer = await api.call("POST", `/images/create?fromSrc=-&repo=strange${query}`, tar);
    assert.equal(answer.status, 200, answer.text);
    const { text } = await api.call("GET", "/images/strange/json");
    const { Config } = JSON.parse(text) as { Config: { Labels: unknown } };
    assert.equal(JSON.stringify(Config.Labels), JSON.stringify(texts));
    for (const name of [
      "constructor:keys",
      "constructor:__proto__",
      "strange:__proto__",
      "strange:constructor",
    ]) {
      await daemon.ok("tag", "strange", name);
      const { stdout, code } = await daemon.docker("save", name);
      assert.equal(code, 0);
      const [repository = "", tag = ""] = name.split(":");
      const saved = stdout.toString("latin1");
      assert.match(saved, new RegExp(`\\{"${repository}":\\{"${tag}":"[0-9a-f]{64}"\\}\\}`), name);
      await daemon.ok("rmi", name);
    }
    assert.equal((await api.call("GET", "/containers/json")).status, 200);
    await daemon.ok("rmi", "strange");
  });

  test("come back from an image that was made by hand, and go into its containers", async () => {
    const config = {
      Labels: texts,
      ExposedPorts: { "80/tcp": {} },
      Volumes: map(() => ({})),
      Env: ["PATH=/bin", ...inherited.map((key) => `${key}=of ${key}`)],
      Cmd: ["sh", "-c", "env; ls /constructor /__proto__"],
    };
    const strange = { ...(await busyboxImage()), config };
    const archive = await dockerArchive([{ image: strange, tags: ["made:latest"] }]);
    const loaded = await api.call("POST", "/images/load", archive);
    assert.match(loaded.text, /Loaded image: made:latest/);
    const image = JSON.parse((await api.call("GET", "/images/made/json")).text) as { Config: typeof config };
    for (const field of ["Labels", "Volumes", "ExposedPorts", "Env"] as const) {
      assert.equal(sortedText(image.Config[field]), sortedText(config[field]), field);
    }
    const printed = await daemon.ok("run", "--name", "strange", "made");
    for (const key of inherited) {
      assert.ok(printed.split("\n").includes(`${key}=of ${key}`), printed);
    }
    const { Mounts } = (await api.inspect("strange")) as unknown as { Mounts: { Destination: string }[] };
    assert.deepEqual(new Set(Mounts.map((mount) => mount.Destination)), new Set(inherited));
    await daemon.ok("rm", "--volumes", "strange");

    const ports = { ...strange, config: { ...config, Volumes: {}, ExposedPorts: map(() => ({})) } };
    await api.call("POST", "/images/load", await dockerArchive([{ image: ports, tags: ["made:ports"] }]));
    const exposing = await api.run({ Image: "made:ports", Cmd: ["true"] });
    assert.equal(await api.wait(exposing), 0);
    const { text } = await api.call("GET", `/containers/${exposing}/json`);
    const { Config } = JSON.parse(text) as { Config: { ExposedPorts: object } };
    assert.deepEqual(new Set(Object.keys(Config.ExposedPorts)), new Set(inherited));
    await api.remove(exposing);
    await daemon.ok("rmi", "made:latest", "made:ports");
  });

  test("are options, kernel settings and aliases like others", async () => {
    const network = Buffer.from(`{"Name":"strange","Options":${mapText((key) => `of ${key}`)}}`);
    await api.expect(201, "POST", "/networks/create", network);
    const { text: told } = await api.call("GET", "/networks/strange");
    assert.equal(JSON.stringify((JSON.parse(told) as { Options: unknown }).Options), JSON.stringify(texts));
    await api.expect(204, "DELETE", "/networks/strange");
    for (const key of inherited) {
      const volume = Buffer.from(`{"Name":"strange","DriverOpts":{${JSON.stringify(key)}:"x"}}`);
      const refusal = `create strange: invalid option: "${key}"`;
      await api.refuses(400, refusal, "POST", "/volumes/create", volume);
    }
    for (const key of inherited) {
      const body = `{"Image":"busybox","HostConfig":{"NetworkMode":"${quickestNetwork()}","Sysctls":{${JSON.stringify(key)}:"1"}}}`;
      if (backendUnderTest() === "aca") {
        await api.refuses(501, /--sysctl/, "POST", "/containers/create", Buffer.from(body));
        continue;
      }
      const { Id } = await api.expect<{ Id: string }>(201, "POST", "/containers/create", Buffer.from(body));
      const refused = await api.call("POST", `/containers/${Id}/start`);
      const kind = backendUnderTest() === "ecs" ? "system control" : "sysctl"; // Fargate's own words
      assert.match(refused.text, new RegExp(`${kind}.*${key}`), key);
      await api.remove(Id);
    }
    await api.expect(201, "POST", "/networks/create", { Name: "shop" });
    const EndpointsConfig = { shop: { Aliases: inherited } };
    const id = await api.run({
      Cmd: ["sleep", "1000"],
      HostConfig: { NetworkMode: "shop" },
      NetworkingConfig: { EndpointsConfig },
    });
    for (const key of inherited) {
      assert.match(await daemon.ok("exec", id, "nslookup", `${key}.`), /Name:\s/, key);
    }
    await api.remove(id);
    await api.expect(204, "DELETE", "/networks/shop");
  });

  test("are platforms that nobody has", async () => {
    for (const key of inherited) {
      const platform = encodeURIComponent(`linux/${key}`);
      const creation = { Image: "busybox", Cmd: ["true"] };
      await api.refuses(
        404,
        /platform|No such image/i,
        "POST",
        `/containers/create?platform=${platform}`,
        creation,
      );
    }
  });

  test("are no words of the API", async () => {
    const id = await api.create({ Cmd: ["true"] });
    for (const key of inherited) {
      await api.refuses(400, /invalid condition/, "POST", `/containers/${id}/wait?condition=${key}`);
      await api.refuses(
        400,
        /invalid filter/,
        "GET",
        `/images/json?filters=${encodeURIComponent(`{"${key}":["x"]}`)}`,
      );
    }
    await api.remove(id);
  });
});
