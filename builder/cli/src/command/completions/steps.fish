for option in from until no-cache-filter
    complete -c kiln -n "__fish_kiln_using_subcommand build" -l $option -xa "(kiln steps --selectors 2>/dev/null)"
end
complete -c kiln -n "__fish_kiln_using_subcommand shell" -l step -xa "(kiln steps --selectors 2>/dev/null)"
