/** Tags of what exists. */
import type {
  ListTagsForResourceCommandInput,
  ListTagsForResourceCommandOutput,
  TagResourceCommandInput,
  TagResourceCommandOutput,
  UntagResourceCommandInput,
  UntagResourceCommandOutput,
} from "@aws-sdk/client-ecs";

import { type Operation, operation } from "../../wire/service.ts";
import { requestTagContext, resourceTagContext } from "../tags.ts";
import { type EcsTags, ecsTagMap } from "./ecs-tags.ts";
import { invalid } from "./run-task-request.ts";

/** The operations on tags; `exists` says whether there is a resource of an ARN that has them. */
export function tagOperations(tags: EcsTags, exists: (arn: string) => boolean): Record<string, Operation> {
  const checked = (arn = ""): string => {
    if (!exists(arn)) {
      throw invalid("The specified resource was not found, or it cannot have tags any more.");
    }
    return arn;
  };
  return {
    TagResource: operation<TagResourceCommandInput, TagResourceCommandOutput>({
      access: ({ resourceArn = "", tags: asked }) => [
        {
          action: "ecs:TagResource",
          resource: resourceArn,
          context: { ...resourceTagContext(tags.of(resourceArn)), ...requestTagContext(ecsTagMap(asked)) },
        },
      ],
      run: ({ resourceArn, tags: asked }) => {
        const arn = checked(resourceArn);
        tags.set(arn, { ...tags.of(arn), ...ecsTagMap(asked) });
        return {};
      },
    }),

    UntagResource: operation<UntagResourceCommandInput, UntagResourceCommandOutput>({
      access: ({ resourceArn = "" }) => [
        {
          action: "ecs:UntagResource",
          resource: resourceArn,
          context: resourceTagContext(tags.of(resourceArn)),
        },
      ],
      run: ({ resourceArn, tagKeys = [] }) => {
        const arn = checked(resourceArn);
        tags.set(
          arn,
          Object.fromEntries(Object.entries(tags.of(arn)).filter(([key]) => !tagKeys.includes(key))),
        );
        return {};
      },
    }),

    ListTagsForResource: operation<ListTagsForResourceCommandInput, ListTagsForResourceCommandOutput>({
      access: ({ resourceArn = "" }) => [
        {
          action: "ecs:ListTagsForResource",
          resource: resourceArn,
          context: resourceTagContext(tags.of(resourceArn)),
        },
      ],
      run: ({ resourceArn }) => ({ tags: tags.list(checked(resourceArn)) }),
    }),
  };
}
