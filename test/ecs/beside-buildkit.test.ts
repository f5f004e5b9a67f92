/** Builds on ECS beside a real BuildKit. */
import "./on-ecs.ts";
import "../builds/beside-buildkit.test.ts";
