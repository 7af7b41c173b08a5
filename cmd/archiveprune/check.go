package main

import (
	"context"

	"tunnelcast/internal/hook"
)

func check(ctx context.Context, env hook.Env, c cli) error {
	return nil
}
