/** Root modules that call one module, as `main.tf.json`. */
import { terraformPath } from "./hcl-module.ts";

const azurerm = {
  provider: {
    azurerm: { subscription_id: "00000000-0000-4000-8000-000000000001", features: {} },
  },
};

/** A root module that calls `terraform/modules/<name>` as `module.this` and passes on all of its outputs. */
export function moduleCall(
  name: "ecs" | "ecs-service" | "aca",
  variables: Readonly<Record<string, unknown>> = {},
  outputs: readonly string[] = [],
  region = "us-east-1",
): Record<string, unknown> {
  return {
    ...(name === "aca" ? azurerm : { provider: { aws: { region } } }),
    module: { this: { source: terraformPath("modules", name), ...variables } },
    ...(outputs.length > 0 && {
      output: Object.fromEntries(
        outputs.map((output) => [output, { value: `\${module.this.${output}}`, sensitive: true }]),
      ),
    }),
  };
}
