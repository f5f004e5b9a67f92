import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { checkout } from "../../../common/built-programs.ts";

/** The prefix of the actions that AWS checks for the calls of each client of the SDK. */
const prefixes: Readonly<Record<string, string>> = {
  "cloudwatch-logs": "logs",
  ec2: "ec2",
  ecr: "ecr",
  ecs: "ecs",
  efs: "elasticfilesystem",
  iam: "iam",
  "service-quotas": "servicequotas",
  servicediscovery: "servicediscovery",
  sts: "sts",
};

/** Actions that AWS checks beside those which are named as the calls of the SDK are. */
const checkedToo: Readonly<Record<string, readonly string[]>> = {
  "tags that are given with what is made": [
    "ec2:CreateTags",
    "ecs:TagResource",
    "elasticfilesystem:TagResource",
    "servicediscovery:TagResource",
  ],
  "roles in task definitions and in RunTask": ["iam:PassRole"],
  "names that Cloud Map writes into its zone": ["route53:ChangeResourceRecordSets", "route53:GetHostedZone"],
  "the registry's own protocol": [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
  ],
};

/** Every caller with credentials may ask for its own identity. */
const needsNoPermission = "sts:GetCallerIdentity";

async function calledBy(source: string): Promise<string[]> {
  const text = await readFile(source, "utf8");
  const imports = /import (?:type )?\{([^}]*)\} from "@aws-sdk\/client-([a-z0-9-]+)"/g;
  return [...text.matchAll(imports)].flatMap(([, names = "", client = ""]) => {
    const prefix = prefixes[client];
    assert.ok(
      prefix !== undefined,
      `${source} uses the client ${client}, whose actions this test does not know`,
    );
    return names
      .split(",")
      .map((name) => name.trim())
      .filter((name) => /^[A-Z]\w+Command$/.test(name))
      .map((name) => `${prefix}:${name.slice(0, -"Command".length)}`);
  });
}

/** The actions that a document of `deploy/iam` allows. */
async function allowedBy(name: string): Promise<Set<string>> {
  const document = await readFile(join(checkout, "deploy/iam", name), "utf8");
  const { Statement: statements } = JSON.parse(document) as { Statement: { Action: string | string[] }[] };
  return new Set(statements.flatMap(({ Action: action }) => action));
}

async function sourcesBelow(folder: string): Promise<string[]> {
  return (await readdir(join(checkout, folder), { recursive: true }))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .map((name) => join(checkout, folder, name));
}

function inOrder(actions: Iterable<string>): string[] {
  return [...actions].sort((one, other) => (one < other ? -1 : 1));
}

const doctor = "src/backends/ecs/doctor";

describe("the backend's policy", () => {
  it("allows what the backend calls, and nothing that it does not", async () => {
    const sources = (await sourcesBelow("src")).filter((name) => !name.includes(doctor));
    const called = (await Promise.all(sources.map(calledBy))).flat();
    assert.ok(called.includes("ecs:RunTask"), "calls are found");
    const needed = new Set([...called, ...Object.values(checkedToo).flat()]);
    needed.delete(needsNoPermission);
    assert.deepEqual(inOrder(await allowedBy("backend-policy.json")), inOrder(needed));
  });

  it("allows with that of the doctor what the doctor calls, and nothing that it does not", async () => {
    const called = new Set((await Promise.all((await sourcesBelow(doctor)).map(calledBy))).flat());
    called.delete(needsNoPermission);
    const allowed = await allowedBy("backend-policy.json");
    assert.deepEqual(
      inOrder([...called].filter((action) => !allowed.has(action))),
      inOrder(await allowedBy("doctor-policy.json")),
    );
  });
});
