import assert from "node:assert/strict";
import { describe, it, test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { type ContainerConfig, ContainerConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { applyChanges } from "./apply-changes.ts";

function apply(...changes: string[]): ContainerConfig {
  return applyChanges(create(ContainerConfigSchema), changes);
}

const env = (...changes: string[]) => apply(...changes).env;

describe("a change", () => {
  it("CMD and ENTRYPOINT take a shell's command or an array", () => {
    assert.deepEqual(apply("CMD echo a | cat").cmd?.values, ["/bin/sh", "-c", "echo a | cat"]);
    assert.deepEqual(apply('cmd ["echo", "a b"]').cmd?.values, ["echo", "a b"]);
    assert.deepEqual(apply('ENTRYPOINT ["/x"]').entrypoint?.values, ["/x"]);
    assert.deepEqual(apply("CMD [not json]").cmd?.values, ["/bin/sh", "-c", "[not json]"]);
  });

  it("ENTRYPOINT takes the command of before away, unless CMD came first", () => {
    const config = create(ContainerConfigSchema, { cmd: { values: ["old"] } });
    assert.equal(applyChanges(config, ['ENTRYPOINT ["/x"]']).cmd, undefined);
    assert.deepEqual(applyChanges(config, ['CMD ["new"]', 'ENTRYPOINT ["/x"]']).cmd?.values, ["new"]);
    assert.deepEqual(config.cmd?.values, ["old"]);
  });

  it("ENV takes pairs, quotes, the old form and variables", () => {
    assert.deepEqual(env("ENV A=1 B=2"), ["A=1", "B=2"]);
    assert.deepEqual(env('ENV A="a b" B=c\\ d C=\'e "f\''), ["A=a b", "B=c d", 'C=e "f']);
    assert.deepEqual(env("ENV A a b  c"), ["A=a b  c"]);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the variables are the Dockerfile's
    assert.deepEqual(env("ENV A=1", "ENV A=2 B=$A", "ENV C=${A}x${B} D='$A' E=\\$A"), [
      "A=2",
      "B=1",
      "C=2x1",
      "D=$A",
      "E=$A",
    ]);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the variables are the Dockerfile's
    assert.deepEqual(env("ENV A= B=${A:-d} C=${A-d} D=${A:+d} E=${A+d} F=${NO-${A:-n}}"), [
      "A=",
      "B=d",
      "C=d",
      "D=",
      "E=",
      "F=n",
    ]);
    assert.deepEqual(env("ENV A=1 \\\n # a comment\n B=2"), ["A=1", "B=2"]);
  });

  it("EXPOSE takes ports, ranges and protocols", () => {
    assert.deepEqual(apply("EXPOSE 80 53/udp 8000-8002/tcp 80").exposedPorts, [
      "80/tcp",
      "53/udp",
      "8000/tcp",
      "8001/tcp",
      "8002/tcp",
    ]);
    assert.deepEqual(apply('ENV P="80 81"', "EXPOSE $P").exposedPorts, ["80/tcp", "81/tcp"]);
  });

  it("LABEL, USER, WORKDIR, VOLUME, STOPSIGNAL and ONBUILD set their values", () => {
    const config = apply(
      "LABEL a=b 'c d'=\"e f\"",
      "USER app:app",
      "WORKDIR /a",
      "WORKDIR b/../c",
      "VOLUME /v /w",
      'VOLUME ["/x y"]',
      "STOPSIGNAL SIGUSR1",
      "ONBUILD RUN make",
    );
    assert.deepEqual({ ...config.labels }, { a: "b", "c d": "e f" });
    assert.equal(config.user, "app:app");
    assert.equal(config.workingDir, "/a/c");
    assert.deepEqual(config.volumes, ["/v", "/w", "/x y"]);
    assert.equal(config.stopSignal, "SIGUSR1");
    assert.deepEqual(config.onBuild?.values, ["RUN make"]);
  });

  it("HEALTHCHECK takes its options", () => {
    const { healthcheck } = apply(
      "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=1ms --retries=3 CMD curl x",
    );
    assert.deepEqual(healthcheck?.test, ["CMD-SHELL", "curl x"]);
    assert.equal(healthcheck?.interval, 5_000_000_000n);
    assert.equal(healthcheck?.timeout, 90_000_000_000n);
    assert.equal(healthcheck?.startPeriod, 1_000_000n);
    assert.equal(healthcheck?.retries, 3);
    assert.deepEqual(apply('HEALTHCHECK CMD ["a"]').healthcheck?.test, ["CMD", "a"]);
    assert.deepEqual(apply("HEALTHCHECK NONE").healthcheck?.test, ["NONE"]);
  });

  for (const [change, message] of [
    ["RUN x", "RUN is not a valid change command"],
    ["nonsense", "nonsense is not a valid change command"],
    ["ENV", "ENV requires at least one argument"],
    ["ENV A", "ENV must have two arguments"],
    ["ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'],
    ["ENV =1", "ENV names can not be blank"],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the variable is the Dockerfile's
    ["ENV A=${", "failed to process \"${\": syntax error: missing '}'"],
    [
      'ENV A="x',
      'failed to process "\\"x": unexpected end of statement while looking for matching double-quote',
    ],
    ["LABEL", "LABEL requires at least one argument"],
    ["CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"],
    ["EXPOSE", "EXPOSE requires at least one argument"],
    ["EXPOSE http", "invalid containerPort: http"],
    ["EXPOSE 70000", "invalid containerPort: 70000"],
    ["EXPOSE 80/icmp", "invalid proto: icmp"],
    ["USER", "USER requires exactly one argument"],
    ["WORKDIR", "WORKDIR requires exactly one argument"],
    ["VOLUME", "VOLUME requires at least one argument"],
    ['VOLUME [""]', "VOLUME specified can not be an empty string"],
    ["STOPSIGNAL SIGNONE", "invalid signal: SIGNONE"],
    ["ONBUILD", "ONBUILD requires at least one argument"],
    ["ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"],
    ["ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"],
    ["HEALTHCHECK", "HEALTHCHECK requires at least one argument"],
    ["HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"],
    ["HEALTHCHECK ls", 'Unknown type "LS" in HEALTHCHECK (try CMD)'],
    ["HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"],
    ["HEALTHCHECK --interval=x CMD y", 'time: invalid duration "x"'],
    ["HEALTHCHECK --interval=1us CMD y", 'Interval "interval" cannot be less than 1ms'],
    ["HEALTHCHECK --retries=-1 CMD y", "--retries cannot be negative (-1)"],
    ["HEALTHCHECK --what=1 CMD y", "unknown flag: what"],
  ] as const) {
    it(`${change} is refused`, () => {
      assert.throws(() => apply(change), { kind: "invalid", message });
    });
  }
});

test("changes made to take long, or to become large, are refused", () => {
  const lines = (line: (n: number) => string, count: number) => [
    Array.from({ length: count }, (_, n) => line(n)).join("\n"),
  ];
  const config = create(ContainerConfigSchema);
  for (const made of [
    lines((n) => `ENV a${n}=1`, 50_000),
    lines((n) => `ENV a${n}=1 b${n}=1`, 30_000),
    [`ENV ${Array.from({ length: 50_000 }, (_, n) => `a${n}=1`).join(" ")}`],
    lines((n) => (n === 0 ? "ENV a=x" : "ENV a=$a$a"), 60),
    lines((n) => `VOLUME /a${n}`, 50_000),
    lines(() => "EXPOSE 1-65535", 50_000),
    lines(() => "ONBUILD RUN x", 50_000),
    lines(() => "WORKDIR a", 50_000),
    [`ENV A="${"8080 ".repeat(60_000)}"\nEXPOSE 80 ${"$A".repeat(1500)}`],
  ]) {
    assert.throws(() => applyChanges(config, made), /changes are too/);
  }
  assert.equal(
    applyChanges(
      config,
      lines((n) => `ENV a${n}=1`, 500),
    ).env.length,
    500,
  );
  assert.equal(applyChanges(config, ["EXPOSE 1-65535", "EXPOSE 1-65535/udp"]).exposedPorts.length, 131_070);
});
