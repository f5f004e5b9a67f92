// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
/** That the stand-in provider is as strict as a schema can be: a plan that passes with it means something. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { buildLimitMs, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { skip, Workspace } from "./terraform.ts";

const provider = { provider: { aws: { region: "us-east-1" } } };
const statement = { sid: "One", actions: ["s3:GetObject"], resources: ["*"] };

describe("the stand-in provider", { skip }, () => {
  for (const { title, configuration, message } of [
    {
      title: "an argument that does not exist",
      configuration: { resource: { aws_vpc: { this: { cidr: "10.0.0.0/16" } } } },
      message: /No argument or block type is named "cidr"|Extraneous JSON object property/,
    },
    {
      title: "a missing argument",
      configuration: { resource: { aws_subnet: { this: { cidr_block: "10.0.0.0/24" } } } },
      message: /"vpc_id" is required/,
    },
    {
      title: "an argument of the wrong type",
      configuration: { resource: { aws_vpc: { this: { enable_dns_support: "perhaps" } } } },
      message: /a bool is required/,
    },
    {
      title: "a value for what only the provider knows",
      configuration: { resource: { aws_vpc: { this: { arn: "arn" } } } },
      message: /unconfigurable attribute "arn"/,
    },
    {
      title: "a missing block",
      configuration: {
        resource: { aws_lb_listener: { this: { load_balancer_arn: "arn", port: 80, protocol: "TCP" } } },
      },
      message: /"default_action" blocks? (is|are) required|At least 1 "default_action"/,
    },
    {
      title: "two blocks where one may be",
      configuration: {
        resource: {
          aws_ecr_repository: {
            this: {
              name: "x",
              image_scanning_configuration: [{ scan_on_push: true }, { scan_on_push: true }],
            },
          },
        },
      },
      message: /No more than 1 "image_scanning_configuration"/,
    },
    {
      title: "an attribute that does not exist",
      configuration: {
        resource: { aws_vpc: { this: {} } },
        output: { x: { value: "${aws_vpc.this.name}" } },
      },
      message: /does not have an attribute named "name"|Unsupported attribute/,
    },
    {
      title: "a resource that does not exist",
      configuration: { resource: { aws_network: { this: {} } } },
      message: /does not support resource type "aws_network"/,
    },
  ]) {
    it(`has Terraform refuse ${title}`, async () => {
      await using workspace = await Workspace.create({ ...provider, ...configuration });
      const diagnostics = await workspace.validate();
      assert.match(diagnostics.map(({ summary, detail }) => `${summary}: ${detail}`).join("\n"), message);
    });
  }

  it("refuses a policy with two statements of one Sid, as the real one does", async () => {
    await using workspace = await Workspace.create({
      ...provider,
      data: { aws_iam_policy_document: { this: { statement: [statement, statement] } } },
    });
    const { diagnostics } = await workspace.plan();
    assert.match(diagnostics[0]?.detail ?? "", /two statements have the Sid "One"/);
  });

  it("renders a policy document", async () => {
    const condition = { test: "StringEquals", variable: "aws:SourceAccount", values: ["1", "2"] };
    const principals = { type: "Service", identifiers: ["ecs-tasks.amazonaws.com"] };
    await using workspace = await Workspace.create({
      ...provider,
      data: {
        aws_iam_policy_document: {
          this: { statement: [{ ...statement, condition, principals, effect: "Deny" }] },
        },
      },
      output: { policy: { value: "${data.aws_iam_policy_document.this.json}" } },
    });
    await workspace.planAndApply();
    assert.deepEqual(JSON.parse(String((await workspace.outputs())["policy"])), {
      Version: "2012-10-17",
      Statement: [
        {
          Sid: "One",
          Effect: "Deny",
          Action: "s3:GetObject",
          Resource: "*",
          Principal: { Service: "ecs-tasks.amazonaws.com" },
          Condition: { StringEquals: { "aws:SourceAccount": ["1", "2"] } },
        },
      ],
    });
  });
});

describe("the stand-in provider's source", () => {
  it("is formatted and vetted", async () => {
    const cwd = `${checkout}/test/terraform/provider`;
    const format = await runCommand("gofmt", ["-l", "."], { cwd });
    assert.deepEqual([format.code, format.text], [0, ""]);
    const vet = await runCommand("go", ["vet", "./..."], {
      cwd,
      env: { ...process.env, GOFLAGS: "-p=2" },
      timeout: buildLimitMs,
    });
    assert.equal(vet.code, 0, vet.errorText);
  });
});
