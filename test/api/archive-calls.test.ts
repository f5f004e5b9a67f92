/** `/containers/{id}/archive` as clients call it: metadata, what is in a tar, and where one is unpacked. */
import assert from "node:assert/strict";
import { lstat, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { entriesOf, tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

/** Facts about a path that `docker cp` needs. */
interface PathStat {
  readonly name: string;
  readonly size: number;
  /** Go's bits: the permissions, and kinds of files from the highest bit down. */
  readonly mode: number;
  readonly mtime: string;
  readonly linkTarget: string;
}

const goDirectory = 0x8000_0000;
const goSymlink = 0x0800_0000;
const goSetuid = 0x0080_0000;

const archive = (container: string, path: string, more = "") =>
  `/containers/${container}/archive?path=${encodeURIComponent(path)}${more}`;
const get = (container: string, path: string) => api.call("GET", archive(container, path));
const put = (container: string, path: string, tar: Uint8Array, more = "") =>
  api.call("PUT", archive(container, path, more), tar, { "Content-Type": "application/x-tar" });
const statIn = (headers: NodeJS.Dict<string | string[]>): PathStat =>
  JSON.parse(Buffer.from(String(headers["x-docker-container-path-stat"]), "base64").toString()) as PathStat;

async function stat(container: string, path: string): Promise<PathStat> {
  const answer = await api.call("HEAD", archive(container, path));
  assert.equal(answer.status, 200);
  assert.equal(answer.text, "");
  return statIn(answer.headers);
}
const namesIn = async (container: string, path: string) =>
  (await entriesOf((await get(container, path)).bytes))
    .map(({ name }) => name)
    .toSorted((one, other) => (one < other ? -1 : 1));

const scene = [
  "mkdir -p /made/deep && echo content > /made/file && chmod 4755 /made/file",
  "ln -s /made/file /made/absolute && ln -s file /made/relative && ln -s /nowhere /made/dangling",
  "mkdir /links && ln -s $OUTSIDE /links/absolute && ln -s $UPWARDS /links/upwards",
  "touch -d '2001-02-03 04:05:06' /made/file && chown 12:34 /made/deep",
].join(" && ");

/** For what is refused when it is put into a container before its start. */
const refusesAtStart = onlyOn("local", "what does not fit in fails the start");

/** One container in each state in which files can be copied. */
const containers: Record<string, string> = {};
let outside = "";
let upwards = "";

describe("files of containers", () => {
  before(async () => {
    // Neither of its links leads to this machine's directory.
    outside = join(daemon.directory, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "secret"), "secret");
    upwards = `${"../".repeat(40)}${outside.slice(1)}`;
    const make = {
      Env: [`OUTSIDE=${outside}`, `UPWARDS=${upwards}`],
      Cmd: ["sh", "-c", `${scene} && echo ready; read hold`],
    };
    containers["running"] = await api.run({ ...make, OpenStdin: true });
    await api.wrote(containers["running"], "ready");
    containers["exited"] = await api.run(make);
    await api.wait(containers["exited"] ?? "");
    const { Id } = await api.expect<{ Id: string }>(
      201,
      "POST",
      `/commit?container=${containers["exited"]}&repo=scene`,
    );
    containers["created"] = await api.create({ Image: Id });
  });
  after(() => api.remove(...Object.values(containers)));

  for (const state of ["running", "exited", "created"]) {
    describe(`the files of a container that is ${state}`, () => {
      const id = () => containers[state] ?? "";

      test("are described by name, size, Go's mode, time and link target", async () => {
        const file = await stat(id(), "/made/file");
        assert.deepEqual(
          [file.name, file.size, file.mode, file.linkTarget],
          ["file", 8, goSetuid | 0o755, ""],
        );
        assert.equal(Date.parse(file.mtime), Date.parse("2001-02-03T04:05:06Z"));
        const directory = await stat(id(), "/made");
        assert.equal(directory.mode, goDirectory + 0o755);
        assert.equal(directory.name, "made");
        for (const [name, target] of [
          ["absolute", "/made/file"],
          ["relative", "/made/file"],
          ["dangling", "/nowhere"],
        ] as const) {
          const link = await stat(id(), `/made/${name}`);
          assert.deepEqual([link.name, link.mode, link.linkTarget], [name, goSymlink + 0o777, target], name);
        }
      });

      test("come as a tar whose first entry is the last element of the path", async () => {
        const answer = await get(id(), "/made/file");
        assert.equal(answer.headers["content-type"], "application/x-tar");
        assert.equal(statIn(answer.headers).name, "file");
        const [entry] = await entriesOf(answer.bytes);
        assert.deepEqual(
          [entry?.name, entry?.mode, entry?.content, entry?.mtime?.toISOString()],
          ["file", 0o4755, "content\n", "2001-02-03T04:05:06.000Z"],
        );
        assert.deepEqual(await namesIn(id(), "/made"), [
          "made/",
          "made/absolute",
          "made/dangling",
          "made/deep/",
          "made/file",
          "made/relative",
        ]);
        const tree = await entriesOf((await get(id(), "/made")).bytes);
        assert.equal(tree.find(({ name }) => name === "made/absolute")?.linkname, "/made/file");
        const deep = tree.find(({ name }) => name === "made/deep/");
        assert.deepEqual([deep?.uid, deep?.gid], [12, 34]);
      });

      test("are those beneath a directory where the path ends in /. or /", async () => {
        assert.deepEqual((await namesIn(id(), "/made/deep/."))[0], "./");
        assert.deepEqual(await namesIn(id(), "/made/deep/"), ["deep/"]);
        for (const path of ["/made/./", "/made/.//"]) {
          assert.equal((await stat(id(), path)).name, ".", path);
          assert.equal((await namesIn(id(), path))[0], "./", path);
        }
        for (const [path, top] of [
          ...[".", "/.", "./", "/./", "made/..//."].map((each) => [each, "./"] as const),
          ...["/", "//", "made/.."].map((each) => [each, "/"] as const),
          ...["made/deep/.", "./made/relative/../deep/."].map((each) => [each, "./"] as const),
          ["made/deep", "deep/"],
          ["./made/deep/", "deep/"],
          ["made/relative", "relative"],
        ] as const) {
          assert.equal((await stat(id(), path)).name, top === "/" ? "/" : top.replace(/\/$/, ""), path);
          const [entry] = await entriesOf((await get(id(), path)).bytes);
          assert.equal(entry?.name, top, path);
        }
        await api.refuses(500, /not a directory/, "GET", archive(id(), "/made/file/."));
      });

      test("come with all that is mounted but the kernel's file systems and devices", {
        skip:
          state === "created" && onlyOn("local", "a task that was not started has its image's files alone"),
      }, async () => {
        const names = await namesIn(id(), "/");
        assert.ok(["/made/file", "/etc/hosts"].every((name) => names.includes(name)));
        const beneath = names.filter((name) => /^\/(dev|proc|sys)\/./.test(name));
        // Mount points that docker makes in every container.
        assert.deepEqual(
          beneath.filter((name) => !/^\/dev\/(console|pts\/|shm\/)$/.test(name)),
          [],
        );
        assert.deepEqual(await namesIn(id(), "/proc"), ["proc/"]);
      });

      test("are written to a directory, with missing parents, and to nothing else", async () => {
        const tar = await tarOf([{ name: "in/put", content: "brought", mode: 0o640 }]);
        assert.equal((await put(id(), "/made/deep", tar)).status, 200);
        const [entry] = await entriesOf((await get(id(), "/made/deep/in/put")).bytes);
        assert.deepEqual([entry?.content, entry?.mode], ["brought", 0o640]);
        for (const path of ["made/deep/.", "./made/./deep/", "."]) {
          const dots = await tarOf([
            { name: "./", type: "directory", mode: 0o700 },
            { name: `./dotted-${path.length}`, content: "x" },
          ]);
          assert.equal((await put(id(), path, dots)).status, 200, path);
          const brought = path === "." ? `/dotted-${path.length}` : `/made/deep/dotted-${path.length}`;
          assert.equal((await stat(id(), brought)).size, 1, path);
          assert.equal((await stat(id(), path)).mode, goDirectory + 0o755, path); // The top of a tar is not its own.
        }
        if (state === "created" && refusesAtStart !== false) {
          return;
        }
        const into = (path: string) => put(id(), path, tar);
        assert.equal((await into("/made/file")).status, 400);
        const missing = await into("/not/there");
        assert.deepEqual(
          [missing.status, missing.json()],
          [404, { message: `Could not find the file /not/there in container ${id()}` }],
        );
      });

      test("keep a directory from becoming a file, and a file a directory, where the client says so", {
        skip: state === "created" && refusesAtStart,
      }, async () => {
        const overFile = await tarOf([{ name: "file", type: "directory" }]);
        const overDirectory = await tarOf([{ name: "deep", content: "x" }]);
        for (const tar of [overFile, overDirectory]) {
          const refused = await put(id(), "/made", tar, "&noOverwriteDirNonDir=1");
          assert.equal(refused.status, 500, refused.text); // as dockerd
          assert.match((refused.json() as { message: string }).message, /cannot overwrite/);
        }
        assert.equal((await stat(id(), "/made/file")).size, 8);
      });

      test("have the owner of their tar, also where the container's is asked for and it names none", async () => {
        for (const [asked, uid, gid] of [
          ["", 77, 88],
          ["&copyUIDGID=1", 78, 89],
        ] as const) {
          await put(id(), "/made", await tarOf([{ name: "owned", content: "x", uid, gid }]), asked);
          const [entry] = await entriesOf((await get(id(), "/made/owned")).bytes);
          assert.deepEqual([entry?.uid, entry?.gid], [uid, gid], asked);
        }
      });

      test("that are not there are told by path and container", async () => {
        const message = `Could not find the file /no/such in container ${id()}`;
        await api.refuses(404, message, "GET", archive(id(), "/no/such"));
        assert.equal((await api.call("HEAD", archive(id(), "/no/such"))).status, 404);
        await api.refuses(400, /bad parameter/, "GET", `/containers/${id()}/archive`);
        await api.refuses(404, "No such container: nobody", "GET", archive("nobody", "/etc"));
      });
    });
  }

  describe("symbolic links", () => {
    test("lead nowhere but into the container, on the way in and out", async () => {
      const planted = await tarOf([{ name: "planted", content: "x" }]);
      const link = await tarOf([{ name: "brought", type: "symlink", linkname: outside }]);
      for (const [state, container] of Object.entries(containers)) {
        assert.equal((await put(container, "/links", link)).status, 200);
        for (const name of ["absolute", "upwards", "brought", upwards]) {
          assert.equal((await get(container, `/links/${name}/secret`)).status, 404, `${state} ${name}`);
          await put(container, `/links/${name}`, planted);
          await put(container, "/links", await tarOf([{ name: `${name}/planted`, content: "x" }]));
        }
        // Nor does one that the same archive brings.
        await put(
          container,
          "/",
          await tarOf([
            { name: "again", type: "symlink", linkname: outside },
            { name: "again/planted", content: "x" },
          ]),
        );
        await assert.rejects(lstat(join(outside, "planted")), { code: "ENOENT" }, state);
      }
    });
  });

  test("an archive may be larger than any JSON body", async () => {
    const container = containers["exited"] ?? "";
    const content = "0123456789abcdef".repeat(512 * 1024);
    assert.equal((await put(container, "/tmp", await tarOf([{ name: "large", content }]))).status, 200);
    assert.equal((await stat(container, "/tmp/large")).size, content.length);
  });
});

test("a tar is read and written without any help from the container", async () => {
  // Neither a shell nor a tar is left in it, and its loader is none.
  const id = await api.script(
    "rm -rf /bin/tar /bin/cp /bin/gzip; mkdir -p /lib; echo garbage > /lib/ld-musl-x86_64.so.1; rm /bin/*",
  );
  await api.wait(id);
  assert.equal((await put(id, "/", await tarOf([{ name: "brought", content: "in" }]))).status, 200);
  const [entry] = await entriesOf((await get(id, "/brought")).bytes);
  assert.equal(entry?.content, "in");
  await api.remove(id);
});

test("what is put in has the container's user where the client says so and it names one", async () => {
  const id = await api.create({ User: "5:7" });
  await put(id, "/tmp", await tarOf([{ name: "owned", content: "x", uid: 77, gid: 88 }]), "&copyUIDGID=1");
  const [entry] = await entriesOf((await get(id, "/tmp/owned")).bytes);
  assert.deepEqual([entry?.uid, entry?.gid], [5, 7]);
  await api.remove(id);
});

describe("before the first start", () => {
  test("the working directory is there, root's, whatever the container's user", async () => {
    const id = await api.create({ WorkingDir: "/home/foo/bar", User: "5:7" });
    assert.equal((await stat(id, "/home/foo/bar")).mode, goDirectory + 0o755);
    const [made] = await entriesOf((await get(id, "/home/foo")).bytes);
    assert.deepEqual([made?.uid, made?.gid], [0, 0]);
    assert.equal((await put(id, "/home/foo/bar", await tarOf([{ name: "in", content: "x" }]))).status, 200);
    await api.remove(id);
  });

  test("a working directory that is a file is refused", {
    skip: onlyOn("local", "nothing of the image is read at a creation"),
  }, async () => {
    await api.refuses(500, /Cannot mkdir: \/bin\/busybox is not a directory/, "POST", "/containers/create", {
      Image: "busybox",
      WorkingDir: "/bin/busybox",
    });
  });

  test("a read-only root is so beside volumes that are not, and for nothing at all, too", async () => {
    const id = await api.create({ HostConfig: { ReadonlyRootfs: true, Binds: ["loose:/new/volume"] } });
    const tar = await tarOf([{ name: "file", content: "x" }]);
    for (const body of [tar, new Uint8Array()]) {
      const refused = await put(id, "/tmp", body);
      assert.equal((refused.json() as { message: string }).message, "container rootfs is marked read-only");
    }
    assert.equal((await put(id, "/new/volume", tar)).status, 200);
    await api.remove(id);
    await api.expect(204, "DELETE", "/volumes/loose");
  });
});
