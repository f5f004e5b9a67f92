/** Root modules that call one module, as `main.tf.json`. */
import { terraformPath } from "./hcl-module.ts";

const settings = {
  aws: { provider: { aws: { region: "us-east-1" } } },
  azurerm: {
    provider: {
      azurerm: { subscription_id: "00000000-0000-4000-8000-000000000001", features: {} },
    },
  },
};

/** A root module that calls `terraform/modules/<name>` as `module.this` and passes on all of its outputs. */
export function moduleCall(
  name: "ecs" | "ecs-service" | "aca",
  variables: Readonly<Record<string, unknown>> = {},
  outputs: readonly string[] = [],
): Record<string, unknown> {
  return {
    ...settings[name === "aca" ? "azurerm" : "aws"],
    module: { this: { source: terraformPath("modules", name), ...variables } },
    ...(outputs.length > 0 && {
      output: Object.fromEntries(
        outputs.map((output) => [output, { value: `\${module.this.${output}}`, sensitive: true }]),
      ),
    }),
  };
}
