/** Steps of one stage: one runs in what the last one has left, in files and processes of its own. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { findShim, killAndAwaitNext } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { inSoak } from "../support/soak.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon, ok } = withDaemon();
const run = (image: string, ...command: string[]) => ok("run", "--rm", image, ...command);
const ofBuilds = ["--quiet", "--filter", "label=sockerless.build"];

/** The one step of a build that runs, once it has printed something. */
const running = (daemon: Daemon, printed: string) =>
  until(async () => {
    const [container = ""] = (await daemon.ok("ps", "--no-trunc", ...ofBuilds)).split("\n");
    return container !== "" && (await daemon.ok("logs", container)).includes(printed) ? container : undefined;
  });

/** The one step of a build that has ended and may be followed. */
const waitingStep = (daemon: Daemon) =>
  daemon.ok("ps", "--all", "--no-trunc", ...ofBuilds, "--filter", "status=exited");

/** A step that tells its namespaces, and what there is that another one could have left. */
const telling = (name: string) =>
  `RUN for each in net uts; do readlink /proc/self/ns/$each; done >/shared-${name}; ` +
  `(ls -A /dev /dev/shm /dev/mqueue; cat /etc/hosts; hostname -i) | sed "s/$(hostname)/HOST/" >/seen-${name}; ` +
  `echo $$ $(grep -l ^sleep /proc/[0-9]*/cmdline | wc -l) >/first-${name}; ` +
  `echo left >/dev/shm/left; touch /dev/left /dev/mqueue/left; echo left >>/etc/hosts; sleep 1000 >/dev/null 2>&1 &`;

describe("steps of a stage", () => {
  test("share a network namespace, and nothing that one of them could leave but its files", async () => {
    const settings = ["", "", "", "--network=none ", "--mount=type=tmpfs,target=/x "];
    const dockerfile = settings
      .map((flags, at) => telling(`${at}`).replace("RUN ", `RUN ${flags}`))
      .join("\n");
    const image = await built(daemon.socket, `FROM busybox\n${dockerfile}\n`);
    const read = (name: string) => Promise.all(settings.map((_, at) => run(image, "cat", `/${name}-${at}`)));
    const [shared, seen, first] = await Promise.all(["shared", "seen", "first"].map(read));
    assert.deepEqual([shared?.[1], shared?.[2]], [shared?.[0], shared?.[0]]);
    assert.equal(new Set(shared).size, 3, `other settings share, too: ${shared?.join(", ")}`);
    assert.deepEqual([seen?.[1], seen?.[2]], [seen?.[0], seen?.[0]]);
    assert.doesNotMatch(seen?.join("\n") ?? "", /left/);
    assert.deepEqual(new Set(first), new Set(["1 0"]));
    assert.equal(await ok("ps", "--all", ...ofBuilds), "");
  });

  test("make the layers that steps with containers of their own make", async () => {
    // Each of a stage of its own, or all of one.
    const steps = [
      "mkdir -p /a/b && echo 1 >/a/b/file && ln /a/b/file /a/link && chmod 1777 /a",
      "mv /a/b /a/c && rm /etc/group && echo more >>/etc/passwd",
      "true",
      "rm -r /a/c && mkdir /a/c && chown 5:6 /a && ln -s c /a/to-c && sleep 0",
      "cat /a/link >/read && mkfifo /a/fifo",
    ];
    const together = await built(
      daemon.socket,
      `FROM busybox\n${steps.map((each) => `RUN ${each}`).join("\n")}\n`,
    );
    const alone = steps.map(
      (each, at) =>
        `FROM ${at === 0 ? "busybox" : `s${at - 1}`} AS s${at}\nRUN --mount=type=tmpfs,target=/own-${at} ${each}`,
    );
    const apart = await built(daemon.socket, `${alone.join("\n")}\n`, { query: { nocache: "1" } });
    const tree = (image: string) =>
      run(
        image,
        "sh",
        "-c",
        "cd / && find a bin etc home read root tmp usr var | sort | xargs stat -c '%n %F %a %u:%g %s %h' && cat /read /etc/passwd",
      );
    assert.equal(await tree(together), await tree(apart));
    const layers = async (image: string) =>
      (JSON.parse(await ok("inspect", "--format", "{{json .RootFS.Layers}}", image)) as string[]).length;
    assert.equal(await layers(together), await layers(apart));
  });

  test("fail as any step does, with the words of the runtime", async () => {
    for (const command of ['["nothing-there"]', '["/etc/passwd"]', "exit 3"]) {
      const [after, first] = await Promise.all(
        ["RUN true\n", ""].map((before) => build(daemon.socket, `FROM busybox\n${before}RUN ${command}\n`)),
      );
      assert.notEqual(after?.error, undefined);
      assert.equal(after?.error?.message, first?.error?.message);
    }
    assert.equal(await ok("ps", "--all", ...ofBuilds), "");
  });

  // In these two not all is copied that a step made: else it would be the same layer, and the same stage.
  test("have an address that is nobody else's while they may be followed", async () => {
    const answer = build(
      daemon.socket,
      "FROM busybox AS first\nRUN hostname -i >/first; touch /else\n" +
        "FROM busybox\nCOPY --from=first /first /\nRUN hostname -i >/second; echo begun; until test -e /gate; do sleep 0.05; done\n",
    );
    const id = await running(daemon, "begun");
    const others = await Promise.all([1, 2, 3].map(() => run("busybox", "hostname", "-i")));
    await ok("exec", "--detach", id, "touch", "/gate");
    const image = (await answer).id ?? "";
    const own = await Promise.all(["/first", "/second"].map((name) => run(image, "cat", name)));
    assert.equal(new Set([...own, ...others]).size >= 3, true, `${own.join()} and ${others.join()}`);
    assert.deepEqual(
      others.filter((address) => own.includes(address)),
      [],
    );
    assert.notEqual(own[0], own[1]);
    // It is free once the build has ended.
    await untilTrue(async () => own.includes(await run("busybox", "hostname", "-i")));
  });

  test("go on where the backend was killed while one ran", async () => {
    const answer = build(
      daemon.socket,
      "FROM busybox AS first\nRUN echo zero >/zero; touch /else\n" +
        "FROM busybox\nCOPY --from=first /zero /\nRUN echo one >/one\n" +
        "RUN echo two >/two; echo going; until test -e /gate; do sleep 0.05; done\nRUN cat /zero /one /two >/three\n",
    );
    const id = await running(daemon, "going");
    const waiting = await waitingStep(daemon);
    assert.notEqual(findShim(daemon, waiting), undefined, "the first stage's step is kept");
    await killAndAwaitNext(daemon, "backend");
    await untilTrue(async () => (await daemon.docker("exec", id, "true")).code === 0);
    // Nobody knows any more whose address that is.
    await untilTrue(() => findShim(daemon, waiting) === undefined);
    await ok("exec", "--detach", id, "touch", "/gate");
    const { error, id: image, text } = await answer;
    assert.equal(error, undefined, text);
    assert.equal(await run(image ?? "", "cat", "/three"), "zero\none\ntwo");
    await untilTrue(async () => (await ok("ps", "--all", ...ofBuilds)) === "");
  });

  test("leave nothing but the one that runs where the daemon is ended", inSoak, async () => {
    await using daemon = await Daemon.startWithBusybox();
    const answer = build(
      daemon.socket,
      "FROM busybox AS first\nRUN touch /first /else\n" +
        "FROM busybox\nCOPY --from=first /first /\nRUN echo going; exec sleep 1000\n",
    ).catch(() => undefined);
    const id = await running(daemon, "going");
    const waiting = await waitingStep(daemon);
    assert.notEqual(findShim(daemon, waiting), undefined);
    await daemon.shutDown();
    await answer;
    assert.equal(findShim(daemon, waiting), undefined);
    await daemon.launch();
    await untilTrue(async () => (await daemon.docker("rm", "--force", id, waiting)).code === 0);
  });
});
