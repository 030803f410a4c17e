"""Every agreement's SELECT, kept up to date in its subscriber's inbox."""
