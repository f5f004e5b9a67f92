resource "aws_ecr_repository" "this" {
  count = var.create_ecr_repository ? 1 : 0

  force_delete         = var.ecr_force_delete
  image_tag_mutability = "MUTABLE" # `docker load` of a tag replaces the image of that tag
  name                 = var.name
  tags                 = merge(local.tags, { Name = var.name })

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  count = var.create_ecr_repository ? 1 : 0

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Images without a tag, after ${var.ecr_untagged_expiry_days} days"
      selection = {
        tagStatus   = "untagged"
        countType   = "sinceImagePushed"
        countUnit   = "days"
        countNumber = var.ecr_untagged_expiry_days
      }
      action = { type = "expire" }
    }]
  })
  repository = aws_ecr_repository.this[count.index].name
}
