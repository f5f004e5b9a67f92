/** `docs/backends/ecs-settings.md`: Docker's settings that Fargate cannot honour, from the tables that decide it. */
import { logDrivers } from "../../src/backends/logging/log-options.ts";
import { defaultRates, regionsOfSlowLogs, slowLogReads } from "../../src/backends/ecs/aws/rates.ts";
import { limitsMissing } from "../../src/backends/cloud/ready-made/machine.ts";
import { innerSocketOff, notApplied, refused, unsharedCaches } from "../../src/backends/ecs/settings.ts";
import type { CloudSetting } from "../../src/backends/cloud/ready-made/setting-rules.ts";

/** The document, from the checkout. */
export const file = "docs/backends/ecs-settings.md";

/** Its content. */
export function render(): string {
  return [
    "# Docker's settings on ECS",
    "",
    "Made from `src/backends/ecs/settings.ts`. What stands nowhere here works, or is unknown to Docker.",
    "",
    "## Refused",
    "",
    "A container that has one of these is refused at its creation with 501, by name: it would be another container than was",
    "asked for.",
    "",
    ...table(refused),
    "",
    "`docker update` of limits is refused with 501 too: a task's size is fixed when it starts.",
    "",
    "No backend has these either:",
    "",
    ...table([
      {
        name: `--log-driver (all but ${logDrivers.join(", ")})`,
        why: "400, as Docker does not find the driver: `syslog`, `awslogs`, `fluentd` and the like; what containers write is in CloudWatch with any but `none`",
      },
    ]),
    "",
    "## Accepted and not applied",
    "",
    "The container works without it. Each is a warning in the backend's log when the container is created, and in the answer,",
    "which the docker CLI prints; what `docker network connect` brings, in the log alone. The Docker socket is a host path, too.",
    "",
    ...table([...notApplied, unsharedCaches, innerSocketOff]),
    "",
    "## Discarded with Docker's warning",
    "",
    "Limits that Fargate keeps itself, or that mean nothing to a task that has processors, memory and disk to itself:",
    "",
    `${[...limitsMissing].map((limit) => `\`${limit}\``).join(", ")}.`,
    "",
    "## Rates of AWS",
    "",
    "What the backend keeps to; where an account's differ, `ecs.api_rates` says so, each as `name=burst/second`.",
    "",
    "| rate | at once | a second |",
    "|---|---|---|",
    ...Object.entries(defaultRates).map(
      ([name, { burst, perSecond }]) => `| \`${name}\` | ${burst} | ${perSecond} |`,
    ),
    "",
    `\`log-reads\` are ${slowLogReads.perSecond} a second in ${[...regionsOfSlowLogs].join(", ")}. Where AWS lets a region read`,
    "less often than that, it refuses, and the backend slows down.",
    "",
  ].join("\n");
}

function table(settings: readonly Pick<CloudSetting, "name" | "why">[]): string[] {
  return [
    "| setting | why |",
    "|---|---|",
    ...settings.map(({ name, why }) => `| \`${name.replaceAll("|", "\\|")}\` | ${why} |`),
  ];
}
