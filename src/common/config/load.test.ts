import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { isErrorKind } from "../errors.ts";
import { type ConfigSources, loadConfig, loadStateDir } from "./load.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const directory = scratchDirectory();

let files = 0;
function yamlFile(content: string): string {
  const file = join(directory, `${files++}.yaml`);
  writeFileSync(file, content);
  return file;
}

function sources(overrides: Partial<ConfigSources>): ConfigSources {
  return { command: "serve", environment: {}, uid: 0, ...overrides };
}

function load(overrides: Partial<ConfigSources>) {
  return loadConfig(sources(overrides)).config;
}

/** The message with which a configuration is refused. */
function refusal(overrides: Partial<ConfigSources>): string {
  try {
    load(overrides);
  } catch (error) {
    assert.ok(isErrorKind(error, "invalid"), String(error));
    return (error as Error).message;
  }
  throw new assert.AssertionError({ message: "it was accepted" });
}

const completeEcs = `
backend: ecs
ecs:
  region: us-east-1
  cluster: sockerless
  subnets: ["subnet-abc123"]
  security_groups: ["sg-abc123"]
  execution_role_arn: "arn:aws:iam::123456789012:role/execution"
`;

describe("configuration precedence", () => {
  const file = yamlFile("log_level: warn\nstate_dir: /from/file\nhosts: [unix:///file.sock]\n");

  it("uses defaults for missing values", () => {
    assert.equal(load({}).logLevel, "info");
  });

  it("takes the file over defaults", () => {
    assert.equal(load({ file }).logLevel, "warn");
  });

  it("takes the environment over the file", () => {
    assert.equal(load({ file, environment: { SOCKERLESS_LOG_LEVEL: "error" } }).logLevel, "error");
  });

  it("takes flags over the environment", () => {
    const flags = { log_level: "debug" };
    assert.equal(load({ file, flags, environment: { SOCKERLESS_LOG_LEVEL: "error" } }).logLevel, "debug");
  });

  it("is decided key by key, and a list is replaced as a whole", () => {
    const config = load({
      file,
      environment: { SOCKERLESS_STATE_DIR: "/from/environment" },
      flags: { hosts: ["unix:///one.sock", "unix:///two.sock"] },
    });
    assert.equal(config.logLevel, "warn");
    assert.equal(config.stateDir, "/from/environment");
    assert.deepEqual(config.hosts, ["unix:///one.sock", "unix:///two.sock"]);
  });

  it("takes an empty environment variable for one that is not set", () => {
    assert.equal(load({ file, environment: { SOCKERLESS_LOG_LEVEL: "" } }).logLevel, "warn");
  });

  it("splits lists in the environment at commas", () => {
    const environment = { SOCKERLESS_HOSTS: "unix:///a.sock, unix:///b.sock" };
    assert.deepEqual(load({ environment }).hosts, ["unix:///a.sock", "unix:///b.sock"]);
  });
});

describe("configuration defaults", () => {
  it("are the system's for root", () => {
    const config = load({});
    assert.deepEqual(config.hosts, ["unix:///var/run/sockerless.sock"]);
    assert.equal(config.listen, "unix:///var/run/sockerless-backend.sock");
    assert.equal(config.backendAddress, config.listen);
    assert.equal(config.stateDir, "/var/lib/sockerless/local");
    assert.equal(config.runDir, "/run/sockerless");
    assert.equal(config.publish, true);
  });

  it("are below the XDG directories for others", () => {
    const config = load({
      uid: 1000,
      environment: { XDG_RUNTIME_DIR: "/run/user/1000", XDG_STATE_HOME: "/home/me/state" },
    });
    assert.deepEqual(config.hosts, ["unix:///run/user/1000/sockerless.sock"]);
    assert.equal(config.listen, "unix:///run/user/1000/sockerless-backend.sock");
    assert.equal(config.stateDir, "/home/me/state/sockerless/local");
    assert.equal(config.runDir, "/run/user/1000/sockerless");
  });

  it("keep instances with state directories of their own apart", () => {
    const one = load({ flags: { state_dir: "/tmp/one" } });
    const two = load({ flags: { state_dir: "/tmp/two" } });
    assert.notEqual(one.listen, two.listen);
    assert.notEqual(one.runDir, two.runDir);
    assert.equal(one.listen, `unix://${one.runDir}/backend.sock`);
    assert.equal(load({ flags: { state_dir: "/tmp/one" } }).runDir, one.runDir);
  });

  it("publish ports in serve only", () => {
    assert.equal(load({ command: "frontend" }).publish, false);
    assert.equal(load({ command: "frontend", flags: { publish: true } }).publish, true);
    assert.equal(load({ environment: { SOCKERLESS_PUBLISH: "false" } }).publish, false);
  });
});

describe("configuration of backends", () => {
  it("reads the ecs section as the seed writes it", () => {
    const config = load({ file: yamlFile(completeEcs) });
    assert.ok(config.backend === "ecs");
    assert.equal(config.stateDir, "/var/lib/sockerless/ecs");
    assert.deepEqual(config.ecs.subnets, ["subnet-abc123"]);
    assert.equal(config.ecs.logGroup, "/sockerless/containers");
    assert.equal(config.ecs.linger, 60_000);
    assert.equal(config.ecs.logDrainMax, 64 * 1024 ** 2);
    assert.equal(config.ecs.taskRoleArn, undefined);
    assert.equal(config.ecs.agentCa, "/etc/sockerless/agent-ca.pem");
  });

  it("takes a section's keys from the environment and flags too", () => {
    const config = load({
      command: "backend",
      backend: "ecs",
      file: yamlFile(completeEcs),
      environment: { SOCKERLESS_ECS_SUBNETS: "subnet-1,subnet-2", SOCKERLESS_ECS_LINGER: "2m" },
      flags: { "ecs.linger": "0", "ecs.assign_public_ip": true },
    });
    assert.ok(config.backend === "ecs");
    assert.deepEqual(config.ecs.subnets, ["subnet-1", "subnet-2"]);
    assert.equal(config.ecs.linger, 0);
    assert.equal(config.ecs.assignPublicIp, true);
  });

  it("names every required key that is missing, and where it can be set", () => {
    const message = refusal({ flags: { backend: "ecs" } });
    for (const key of ["region", "cluster", "subnets", "security_groups", "execution_role_arn"]) {
      assert.match(
        message,
        new RegExp(`ecs\\.${key} is required \\(--ecs-${key.replaceAll("_", "-")}, SOCKERLESS_ECS_`),
      );
    }
    assert.doesNotMatch(message, /task_role_arn/);
  });

  it("does not require an unused section, but checks its values", () => {
    assert.equal(load({ file: yamlFile("ecs:\n  region: us-east-1\n") }).backend, "local");
    assert.match(refusal({ file: yamlFile("ecs:\n  linger: soon\n") }), /ecs\.linger must be a duration/);
  });

  it("reads the aca section", () => {
    const config = load({
      file: yamlFile(
        "backend: aca\naca: {subscription_id: s, resource_group: g, managed_environment_name: e, location: l, storage_account_key: k}",
      ),
    });
    assert.ok(config.backend === "aca");
    assert.equal(config.aca.managedEnvironmentName, "e");
    assert.equal(config.aca.storageAccountKey, "k");
  });

  it("can be sent to another process as it is", () => {
    const config = load({ file: yamlFile(completeEcs) });
    assert.deepEqual(JSON.parse(JSON.stringify(config)).ecs.subnets, ["subnet-abc123"]);
  });
});

describe("configuration mistakes", () => {
  it("are reported with the nearest name", () => {
    assert.match(
      refusal({ file: yamlFile("stat_dir: /x\n") }),
      /unknown key stat_dir \(in .*\): did you mean state_dir\?/,
    );
    assert.match(
      refusal({ file: yamlFile("ecs:\n  securityGroups: [a]\n") }),
      /unknown key ecs\.securityGroups .*did you mean ecs\.security_groups\?/,
    );
    assert.match(refusal({ file: yamlFile("esc:\n  region: x\n") }), /did you mean ecs\?/);
  });

  it("are reported without a suggestion if no name is near", () => {
    const message = refusal({ file: yamlFile("flavour: sweet\n") });
    assert.match(message, /unknown key flavour/);
    assert.doesNotMatch(message, /did you mean/);
  });

  it("are reported all at once, each with its origin", () => {
    const message = refusal({
      file: yamlFile("log_level: loud\n"),
      environment: { SOCKERLESS_PUBLISH: "perhaps" },
      flags: { hosts: ["/var/run/docker.sock"] },
    });
    assert.match(message, /log_level must be one of .*\(in .*\.yaml\)/);
    assert.match(message, /publish must be true or false \(from SOCKERLESS_PUBLISH\)/);
    assert.match(message, /hosts must be unix:\/\/\/path or tcp:\/\/address:port \(from --host\)/);
  });

  it("in the file's syntax or place name the file", () => {
    assert.match(refusal({ file: yamlFile("a: [\n") }), /configuration file .*\.yaml: /);
    assert.match(refusal({ file: yamlFile("- a\n") }), /must be a mapping/);
    assert.throws(
      () => load({ file: "/nonexistent.yaml" }),
      /configuration file \/nonexistent\.yaml: ENOENT/,
    );
  });

  it("in the environment are warned of, because it is shared with others", () => {
    const { warnings } = loadConfig(
      sources({ environment: { SOCKERLESS_LOGLEVEL: "debug", SOCKERLESS_SERVICE_HOST: "10.0.0.1" } }),
    );
    assert.deepEqual(warnings, ["SOCKERLESS_LOGLEVEL is not a setting: did you mean SOCKERLESS_LOG_LEVEL?"]);
  });

  it("never open a TCP listener without mutual TLS", () => {
    assert.match(refusal({ flags: { hosts: ["tcp://127.0.0.1:2376"] } }), /mutual TLS/);
    assert.match(refusal({ flags: { listen: "tcp://127.0.0.1:2376", tlscert: "/c" } }), /mutual TLS/);
    const tls = { tlscacert: "/ca.pem", tlscert: "/cert.pem", tlskey: "/key.pem" };
    assert.deepEqual(load({ flags: { ...tls, hosts: ["tcp://[::1]:2376"] } }).tls, {
      ca: "/ca.pem",
      cert: "/cert.pem",
      key: "/key.pem",
    });
  });

  it("with socket paths that Linux cannot bind are found before binding", () => {
    assert.match(refusal({ flags: { hosts: [`unix:///${"x".repeat(120)}`] } }), /at most 107 bytes/);
  });

  it("never show a secret", () => {
    const message = refusal({ flags: { backend: "aca", "aca.storage_account_key": "hunter2" } });
    assert.doesNotMatch(message, /hunter2/);
  });
});

describe("the state directory alone", () => {
  const stateDir = (overrides: Partial<ConfigSources>): string =>
    loadStateDir({ ...sources(overrides), command: "stop" }).stateDir;

  it("is the backend's own, whose section need not be complete", () => {
    assert.equal(stateDir({}), "/var/lib/sockerless/local");
    assert.equal(stateDir({ file: yamlFile("backend: ecs\n") }), "/var/lib/sockerless/ecs");
    assert.equal(stateDir({ environment: { SOCKERLESS_BACKEND: "aca" } }), "/var/lib/sockerless/aca");
    assert.equal(stateDir({ flags: { state_dir: "/s/../t" } }), "/t");
  });

  it("is that of serve with the same sources, and contains the log", () => {
    const given = {
      file: yamlFile("state_dir: /from/file\n"),
      environment: { SOCKERLESS_STATE_DIR: "/from/env" },
    };
    assert.equal(stateDir(given), "/from/env");
    assert.equal(load(given).stateDir, "/from/env");
    assert.equal(load(given).logFile, "/from/env/sockerless.log");
    assert.equal(load({ ...given, flags: { log_file: "/log" } }).logFile, "/log");
  });

  it("is not read out of a file with mistakes", () => {
    const file = yamlFile("state_dri: /typo\n");
    assert.throws(() => stateDir({ file }), /did you mean state_dir\?/);
  });
});
