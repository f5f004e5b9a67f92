/** One life of a container over raw HTTP at the oldest, two middle and the newest API version; answers as moby describes them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { quickestNetwork } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { hijackRequest, RawClient } from "../support/raw-client.ts";
import { assertDescribed } from "../support/swagger.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();
/** By the call that is described: fields that dockerd writes for older clients or forgot to describe, and our own. */
const undescribedFields: Readonly<Record<string, readonly string[]>> = {
  "/containers/{id}/json": ["StartPhases", "Volumes", "VolumesRW"],
  "/volumes/{name}": ["Status"],
};

for (const version of ["1.24", "1.41", "1.44", "1.51"]) {
  describe(`API ${version}`, () => {
    const call = (method: string, path: string, body?: unknown) =>
      callApi(daemon.socket, method, `/v${version}${path}`, body === undefined ? {} : { body });
    /** Calls, checks the status, and at the newest version checks the body against the description. */
    const checked = async (
      method: "get" | "post" | "delete",
      described: string,
      path: string,
      status: number,
      body?: unknown,
    ): Promise<unknown> => {
      const answer = await call(method.toUpperCase(), path, body);
      assert.equal(answer.status, status, answer.text);
      if (answer.text === "") {
        return undefined;
      }
      if (version === "1.51") {
        assertDescribed(method, described, status, answer.json(), {
          undescribed: undescribedFields[described] ?? [],
        });
      }
      return answer.json();
    };

    test("a container lives from create to remove", async () => {
      const made = (await checked("post", "/containers/create", "/containers/create", 201, {
        Image: "busybox",
        Cmd: ["sh", "-c", "echo out; echo err >&2; exit 3"],
        Labels: { api: version },
        HostConfig: { NetworkMode: quickestNetwork() },
      })) as { Id: string; Warnings: string[] };
      assert.match(made.Id, /^[0-9a-f]{64}$/);
      assert.deepEqual(made.Warnings, []);
      const at = `/containers/${made.Id}`;
      await checked("post", "/containers/{id}/start", `${at}/start`, 204);
      const end = (await checked("post", "/containers/{id}/wait", `${at}/wait`, 200)) as {
        StatusCode: number;
      };
      assert.equal(end.StatusCode, 3);
      const detail = (await checked("get", "/containers/{id}/json", `${at}/json`, 200)) as {
        State: { Status: string; ExitCode: number };
      };
      assert.deepEqual([detail.State.Status, detail.State.ExitCode], ["exited", 3]);
      const filters = encodeURIComponent(JSON.stringify({ label: [`api=${version}`] }));
      const listed = (await checked(
        "get",
        "/containers/json",
        `/containers/json?all=1&filters=${filters}`,
        200,
      )) as { Id: string }[];
      assert.deepEqual(
        listed.map((each) => each.Id),
        [made.Id],
      );
      const logs = await call("GET", `${at}/logs?stdout=1&stderr=1`);
      // Two streams have no order of their own.
      const [out, err] = ["\x01\0\0\0\0\0\0\x04out\n", "\x02\0\0\0\0\0\0\x04err\n"];
      assert.ok([`${out}${err}`, `${err}${out}`].includes(logs.text), JSON.stringify(logs.text));
      assert.equal(
        logs.headers["content-type"],
        Number(version.slice(2)) >= 42
          ? "application/vnd.docker.multiplexed-stream"
          : "application/vnd.docker.raw-stream",
      );
      assert.equal((await call("POST", `${at}/stop`)).status, 304, "it had stopped");
      await checked("delete", "/containers/{id}", at, 204);
      await checked("get", "/containers/{id}/json", `${at}/json`, 404);
    });

    for (const upgrade of [true, false]) {
      test(`an exec ${upgrade ? "upgrades" : "takes over"} the connection, first input in the request's packet`, async () => {
        const { Id } = (
          await call("POST", "/containers/create", { Image: "busybox", Cmd: ["sleep", "1000"] })
        ).json() as {
          Id: string;
        };
        await call("POST", `/containers/${Id}/start`);
        const exec = (await checked("post", "/containers/{id}/exec", `/containers/${Id}/exec`, 201, {
          Cmd: ["sh", "-c", "cat; exit 4"],
          AttachStdin: true,
          AttachStdout: true,
        })) as { Id: string };
        const client = new RawClient(daemon.socket);
        const body = '{"Detach":false,"Tty":false}';
        client.send(`${hijackRequest(`/v${version}/exec/${exec.Id}/start`, { body, upgrade })}first input`);
        assert.match(await client.answered(), upgrade ? /^HTTP\/1\.1 101 UPGRADED/ : /^HTTP\/1\.1 200 OK/);
        client.socket.end();
        await client.end();
        assert.equal(client.body.subarray(8).toString(), "first input");
        client.close();
        const state = (await checked("get", "/exec/{id}/json", `/exec/${exec.Id}/json`, 200)) as {
          ExitCode: number;
        };
        assert.equal(state.ExitCode, 4);
        await checked("delete", "/containers/{id}", `/containers/${Id}?force=1`, 204);
      });
    }

    test("images, networks, volumes, version and info are as described", async () => {
      await checked("get", "/images/json", "/images/json", 200);
      await checked("get", "/images/{name}/json", "/images/busybox/json", 200);
      const networks = (await checked("get", "/networks", "/networks", 200)) as { Name: string }[];
      assert.deepEqual(new Set(networks.map((network) => network.Name)), new Set(["bridge", "host", "none"]));
      await checked("get", "/networks/{id}", "/networks/bridge", 200);
      const name = `v${version}`;
      await checked("post", "/volumes/create", "/volumes/create", 201, { Name: name });
      await checked("get", "/volumes", "/volumes", 200);
      await checked("get", "/volumes/{name}", `/volumes/${name}`, 200);
      await checked("delete", "/volumes/{name}", `/volumes/${name}`, 204);
      await checked("get", "/version", "/version", 200);
      await checked("get", "/info", "/info", 200);
    });
  });
}
