/** docs/configuration.md, from the schema in src/common/config. */
import { type Setting, settings } from "../../src/common/config/settings.ts";

export const file = "docs/configuration.md";

const introduction = `# Configuration

Generated from the schema in \`src/common/config\` by \`npm run generate\`.

Every setting can be given as a flag, as an environment variable or as a key of a YAML file (\`--config FILE\` or
\`SOCKERLESS_CONFIG\`). A flag goes before the environment, the environment before the file, the file before the
default. An unknown key of the file is refused, with the name that was probably meant.

- Lists: a flag may be repeated; in an environment variable items are separated by commas.
- Durations: \`500ms\`, \`60s\`, \`1m30s\`. Sizes: \`64MiB\`, \`1g\`, or bytes.
- Every TCP address demands mutual TLS: \`tlscacert\`, \`tlscert\` and \`tlskey\`.
- Flags are seen by every user of the machine (\`ps\`); give secrets in the file or the environment.
`;

const example = `## Example

\`\`\`yaml
backend: ecs
hosts: ["unix:///var/run/sockerless.sock"]
log_level: info
ecs:
  region: us-east-1
  cluster: sockerless
  subnets: ["subnet-abc123"]
  security_groups: ["sg-abc123"]
  task_role_arn: "arn:aws:iam::123456789012:role/sockerless-task"
  execution_role_arn: "arn:aws:iam::123456789012:role/sockerless-execution"
  efs_filesystem_id: "fs-abc123"
  ecr_repository: 123456789012.dkr.ecr.us-east-1.amazonaws.com/sockerless
  log_group: /sockerless/containers
\`\`\`
`;

/** The document. */
export function render(): string {
  const parts = [
    introduction,
    section("General", undefined),
    section("`builder`: `docker build`", "builder"),
    section("`image`: images that are sent", "image"),
    section("`pool`: prepared tasks", "pool"),
    section("`ecs`: AWS ECS Fargate", "ecs"),
    section("`aca`: Azure Container Apps", "aca"),
    section("`kubernetes`: pods of a cluster", "kubernetes"),
    example,
  ];
  return parts.join("\n");
}

function section(title: string, name: Setting["section"]): string {
  const own = settings.filter((setting) => setting.section === name);
  return `## ${title}\n\n${own.map(entry).join("\n")}`;
}

function entry(setting: Setting): string {
  const facts = [
    setting.typeName,
    setting.required ? "required" : defaultText(setting),
    ...(setting.secret === true ? ["secret"] : []),
  ];
  return `### \`${setting.name}\`

${setting.description}

${capitalize(facts.join("; "))}.

\`--${setting.flag}\` (${setting.commands.map((command) => `\`${command}\``).join(", ")}) · \`${setting.variable}\`
`;
}

function defaultText(setting: Setting): string {
  if (setting.defaultText !== undefined) {
    return `default: ${setting.defaultText}`;
  }
  return setting.defaultValue === undefined ? "optional" : `default: \`${setting.defaultValue}\``;
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
