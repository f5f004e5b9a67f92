/** Task definitions: families of numbered revisions, which never change. */
import type { RegisterTaskDefinitionCommandInput, TaskDefinition } from "@aws-sdk/client-ecs";

import { arnOf, type Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Given, type Operation, operations } from "../../wire/service.ts";
import { requestTagContext } from "../tags.ts";
import { ecsPage, type EcsTag, type EcsTags, ecsTagMap } from "./ecs-tags.ts";
import { definitionViolation } from "./fargate-definition.ts";
import { refuseNotSimulatedDefinition } from "./not-simulated.ts";
import { passRole } from "./roles.ts";

/** A definition as ECS keeps and answers it. */
export type RegisteredDefinition = Given<TaskDefinition>;

/** The definitions of the account. */
export class Definitions {
  readonly #context: Context;
  readonly #tags: EcsTags;
  readonly #byArn = new Map<string, RegisteredDefinition>();
  readonly #revisions = new Map<string, number>();

  constructor(context: Context, tags: EcsTags) {
    this.#context = context;
    this.#tags = tags;
  }

  arnOf(familyAndRevision: string): string {
    return arnOf(this.#context, "ecs", `task-definition/${familyAndRevision}`);
  }

  /**
   * A definition by `family` (the newest that is active), `family:revision` or ARN.
   *
   * @returns undefined when there is none
   */
  find(reference: string): RegisteredDefinition | undefined {
    const name = reference.slice(reference.lastIndexOf("/") + 1);
    if (reference.startsWith("arn:") && !reference.startsWith(this.arnOf(""))) {
      return undefined;
    }
    if (name.includes(":")) {
      return this.#byArn.get(this.arnOf(name));
    }
    return this.all().findLast(({ family, status }) => family === name && status === "ACTIVE");
  }

  /** In the order of their families and revisions. */
  all(): RegisteredDefinition[] {
    return [...this.#byArn.values()].toSorted(
      (one, other) =>
        (one.family ?? "").localeCompare(other.family ?? "") || (one.revision ?? 0) - (other.revision ?? 0),
    );
  }

  /** @throws AwsFault `ClientException` for what ECS, or Fargate, refuses */
  register(input: Given<RegisterTaskDefinitionCommandInput>, registeredBy: string): RegisteredDefinition {
    refuseNotSimulatedDefinition(input);
    const violation = definitionViolation(input);
    if (violation !== undefined) {
      throw new AwsFault("ClientException", violation);
    }
    const { tags, family = "", ...rest } = input;
    const revision = (this.#revisions.get(family) ?? 0) + 1;
    const taskDefinitionArn = this.arnOf(`${family}:${revision}`);
    this.#tags.set(taskDefinitionArn, ecsTagMap(tags));
    this.#revisions.set(family, revision);
    const definition: RegisteredDefinition = {
      ...rest,
      family,
      revision,
      taskDefinitionArn,
      status: "ACTIVE",
      volumes: rest.volumes ?? [],
      compatibilities: ["EC2", "FARGATE"],
      registeredAt: this.#context.clock.now(),
      registeredBy,
    };
    this.#byArn.set(taskDefinitionArn, definition);
    return definition;
  }

  /** A definition that is asked for by its whole name, to be taken out of use. */
  named(reference: string): RegisteredDefinition {
    const found = reference.slice(reference.lastIndexOf("/") + 1).includes(":")
      ? this.find(reference)
      : undefined;
    if (found === undefined) {
      throw new AwsFault("ClientException", "The specified task definition does not exist.");
    }
    return found;
  }

  /** Takes it out of the account's memory. */
  forget({ taskDefinitionArn = "" }: RegisteredDefinition): void {
    this.#byArn.delete(taskDefinitionArn);
    this.#tags.forget(taskDefinitionArn);
  }
}

/** As the SDK's types have what is answered. */
function answered(definition: RegisteredDefinition): TaskDefinition {
  return definition as TaskDefinition;
}

/** Deleting takes ECS a while; nothing may use a definition meanwhile. */
const deletionMs = 60_000;

/** The operations on definitions. */
export function definitionOperations(
  context: Context,
  definitions: Definitions,
  tags: EcsTags,
): Readonly<Record<string, Operation>> {
  const anything = (action: string): AccessRequest[] => [{ action: `ecs:${action}`, resource: "*" }];
  const tagsOf = ({ taskDefinitionArn = "" }: RegisteredDefinition): EcsTag[] => tags.list(taskDefinitionArn);

  return operations<typeof import("@aws-sdk/client-ecs")>({
    RegisterTaskDefinition: {
      access: (input) => {
        const resource = definitions.arnOf(`${input.family}:*`);
        const tagContext = requestTagContext(ecsTagMap(input.tags));
        return [
          { action: "ecs:RegisterTaskDefinition", resource, context: tagContext },
          ...passRole(input.taskRoleArn, input.executionRoleArn),
          ...((input.tags ?? []).length === 0
            ? []
            : [
                {
                  action: "ecs:TagResource",
                  resource,
                  context: { ...tagContext, "ecs:CreateAction": "RegisterTaskDefinition" },
                },
              ]),
        ];
      },
      run: (input, { principal }) => {
        const taskDefinition = definitions.register(input, principal.arn);
        return { taskDefinition: answered(taskDefinition), tags: tagsOf(taskDefinition) };
      },
    },

    DeregisterTaskDefinition: {
      access: () => anything("DeregisterTaskDefinition"),
      run: ({ taskDefinition = "" }) => {
        const found = definitions.named(taskDefinition);
        if (found.status === "ACTIVE") {
          found.status = "INACTIVE";
          found.deregisteredAt = context.clock.now();
        }
        return { taskDefinition: answered(found) };
      },
    },

    DeleteTaskDefinitions: {
      access: ({ taskDefinitions = [] }) =>
        taskDefinitions.map((each) => ({
          action: "ecs:DeleteTaskDefinitions",
          resource: definitions.arnOf(each.slice(each.lastIndexOf("/") + 1)),
        })),
      run: ({ taskDefinitions: references = [] }) => {
        if (references.length === 0 || references.length > 10) {
          throw new AwsFault("InvalidParameterException", "taskDefinitions must have 1 to 10 items.");
        }
        const failures = [];
        const taskDefinitions = [];
        for (const reference of references) {
          const found = definitions.find(reference);
          if (found?.status === "INACTIVE") {
            found.status = "DELETE_IN_PROGRESS";
            found.deleteRequestedAt = context.clock.now();
            context.clock.after(deletionMs, () => definitions.forget(found));
            taskDefinitions.push(answered(found));
          } else {
            const reason =
              found === undefined
                ? "The specified task definition does not exist. Specify a valid account, family, revision and try again."
                : "The specified task definition is still in ACTIVE status. Please deregister the target and try again.";
            failures.push({ arn: reference, reason });
          }
        }
        return { taskDefinitions, failures };
      },
    },

    DescribeTaskDefinition: {
      access: () => anything("DescribeTaskDefinition"),
      run: ({ taskDefinition: reference = "", include }) => {
        const found = definitions.find(reference);
        if (found === undefined) {
          throw new AwsFault("ClientException", "Unable to describe task definition.");
        }
        return {
          taskDefinition: answered(found),
          ...(include?.includes("TAGS") === true && { tags: tagsOf(found) }),
        };
      },
    },

    ListTaskDefinitions: {
      access: () => anything("ListTaskDefinitions"),
      run: ({ familyPrefix, status = "ACTIVE", sort = "ASC", nextToken, maxResults }) => {
        // The whole name of a family, in spite of its name.
        const found = definitions
          .all()
          .filter(
            (each) => each.status === status && (familyPrefix === undefined || each.family === familyPrefix),
          );
        const arns = found.map(({ taskDefinitionArn = "" }) => taskDefinitionArn);
        const page = ecsPage(sort === "DESC" ? arns.toReversed() : arns, nextToken, maxResults);
        return { taskDefinitionArns: page.items, nextToken: page.next };
      },
    },

    ListTaskDefinitionFamilies: {
      access: () => anything("ListTaskDefinitionFamilies"),
      run: ({ familyPrefix = "", status = "ACTIVE", nextToken, maxResults }) => {
        const families = Map.groupBy(definitions.all(), ({ family = "" }) => family);
        const found = [...families].filter(([family, revisions]) => {
          const isActive = revisions.some((each) => each.status === "ACTIVE");
          return family.startsWith(familyPrefix) && (status === "ALL" || isActive === (status === "ACTIVE"));
        });
        const page = ecsPage(
          found.map(([family]) => family),
          nextToken,
          maxResults,
        );
        return { families: page.items, nextToken: page.next };
      },
    },
  });
}
