/** The ACA module: its parsed HCL, and what Terraform makes of it. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { loadConfig } from "../../src/common/config/load.ts";
import { sampled } from "../support/soak.ts";
import { assertAttributes } from "./criteria/criterion.ts";
import { blocks, expression, HclModule, readSources } from "./hcl-module.ts";
import { moduleCall } from "./module-call.ts";
import { skip, Workspace } from "./terraform.ts";

const principal = "00000000-0000-4000-8000-000000000009";

describe("the ACA module", async () => {
  const module = await HclModule.parse(readSources("modules/aca"));

  it("describes and types all variables, and describes all outputs", () => {
    for (const [name, body] of [...module.variables, ...module.outputs]) {
      assert.ok(String(body["description"] ?? "").length > 10, name);
    }
    for (const [name, body] of module.variables) {
      assert.ok("type" in body && "default" in body, name);
    }
  });

  it("tags every resource that can have tags", () => {
    assert.equal(
      expression(module.local("tags")),
      'merge(var.tags, { project = "sockerless" environment = var.environment component = "aca" managed-by = "terraform" })',
    );
    const untaggable = ["azurerm_subnet", "azurerm_role_assignment"];
    for (const { type, name, body } of module.resources) {
      if (!untaggable.includes(type)) {
        assert.equal(expression(body["tags"]), "local.tags", `${type}.${name}`);
      }
    }
  });

  it("has a storage account with TLS 1.2 and HTTPS only, but where it takes NFS, and nothing public", () => {
    assertAttributes(module.resource("azurerm_storage_account"), {
      allow_nested_items_to_be_public: false,
      https_traffic_only_enabled: "!var.nfs_shares",
      min_tls_version: "TLS1_2",
    });
  });

  it("has a registry without an admin user", () => {
    assertAttributes(module.resource("azurerm_container_registry"), {
      admin_enabled: false,
      anonymous_pull_enabled: false,
    });
  });

  it("puts the environment into a subnet that is delegated to it, with logs in Log Analytics", () => {
    assertAttributes(module.resource("azurerm_container_app_environment"), {
      infrastructure_subnet_id: "azurerm_subnet.environment.id",
      log_analytics_workspace_id: "azurerm_log_analytics_workspace.this.id",
      logs_destination: "log-analytics",
    });
    const [delegation = {}] = blocks(module.resource("azurerm_subnet", "environment"), "delegation");
    const [service = {}] = blocks(delegation, "service_delegation");
    assert.equal(service["name"], "Microsoft.App/environments");
  });

  it("assigns roles on single resources, and on the resource group only the one for jobs", () => {
    assertAttributes(module.resource("azurerm_role_assignment", "pull"), {
      role_definition_name: "AcrPull",
      scope: "azurerm_container_registry.this[count.index].id",
    });
    const roles = expression(module.local("backend_roles"));
    const broad = [...roles.matchAll(/role = "([^"]+)", scope = local\.resource_group_id/g)];
    assert.deepEqual(
      broad.map(([, role]) => role),
      ["Container Apps Jobs Contributor"],
    );
    const onRegistry = [...roles.matchAll(/role = "([^"]+)", scope = id /g)];
    assert.deepEqual(
      onRegistry.map(([, role]) => role),
      ["AcrPush", "Container Registry Data Importer and Data Reader", "AcrDelete"],
    );
    assert.doesNotMatch(roles, /"(Owner|Contributor|User Access Administrator)"/);
  });

  it("marks secrets as sensitive", () => {
    const sensitive = [...module.outputs].filter(([, body]) => body["sensitive"] === true);
    assert.deepEqual(
      new Set(sensitive.map(([name]) => name)),
      new Set(["sockerless_config", "storage_account_key"]),
    );
  });
});

describe("the ACA module in Terraform", { skip, concurrency: 2 }, () => {
  for (const [title, variables, isInSample] of [
    ["defaults", {}, false],
    [
      "all options",
      { backend_principals: { me: principal }, storage_allowed_ip_ranges: ["203.0.113.1"] },
      true,
    ],
    [
      "an existing resource group",
      { create_resource_group: false, resource_group_name: "containers" },
      false,
    ],
    ["no registry", { create_container_registry: false, storage_account_tier: "Premium" }, false],
    ["NFS shares", { nfs_shares: true, storage_account_tier: "Premium" }, false],
  ] as const) {
    it(
      `is planned, applied, unchanged by a second plan, and destroyed: ${title}`,
      sampled(isInSample),
      async () => {
        await using workspace = await Workspace.create(moduleCall("aca", variables));
        assert.deepEqual(await workspace.validate(), []);
        await workspace.planAndApply();
        assert.deepEqual((await workspace.plan()).changes, []);
        await workspace.destroy();
        assert.deepEqual(await workspace.resources(), []);
      },
    );
  }

  it("hands on a configuration that sockerless accepts, with what it made", async () => {
    const names = [
      "subscription_id",
      "resource_group",
      "managed_environment_name",
      "location",
      "log_analytics_workspace_id",
      "storage_account_name",
      "storage_account_key",
      "registry_server",
      "registry_id",
      "identity",
      "sockerless_config",
    ];
    const variables = { callback_url: "wss://backend.example/agents", location: "northeurope" };
    await using workspace = await Workspace.create(moduleCall("aca", variables, names));
    await workspace.planAndApply();
    const outputs = await workspace.outputs();
    const file = join(workspace.directory, "config.yaml");
    await writeFile(file, String(outputs["sockerless_config"]));
    const { config, warnings } = loadConfig({ command: "serve", environment: {}, uid: 0, file });
    assert.ok(config.backend === "aca");
    assert.deepEqual(warnings, []);
    const { aca } = config;
    assert.deepEqual(
      {
        subscription_id: aca.subscriptionId,
        resource_group: aca.resourceGroup,
        managed_environment_name: aca.managedEnvironmentName,
        location: aca.location,
        log_analytics_workspace_id: aca.logAnalyticsWorkspaceId,
        storage_account_name: aca.storageAccountName,
        storage_account_key: aca.storageAccountKey,
        registry_server: aca.registryServer,
        registry_id: aca.registryId,
        identity: aca.identity,
        sockerless_config: outputs["sockerless_config"],
      },
      outputs,
    );
    assert.equal(aca.callbackUrl, variables.callback_url);
    assert.equal(aca.location, "northeurope");
  });

  it("exists twice in a subscription without sharing a name", async () => {
    const { module, ...root } = moduleCall("aca");
    const { this: first } = module as { this: Record<string, unknown> };
    await using workspace = await Workspace.create({
      ...root,
      module: { first: { ...first, name: "first" }, second: { ...first, name: "second" } },
    });
    const { resources } = await workspace.planAndApply();
    // A subnet is named within its network.
    const names = resources
      .filter(({ type, values }) => type !== "azurerm_subnet" && typeof values["name"] === "string")
      .map(({ type, values }) => `${type} ${values["name"]}`);
    assert.equal(new Set(names).size, names.length, names.join());
  });
});
