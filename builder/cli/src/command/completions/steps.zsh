_kiln_steps() {
    local at=${words[(I)-f]} file=()
    ((at)) && file=(-f $words[at+1])
    local -a steps=(${(f)"$(kiln steps --selectors $file 2>/dev/null)"})
    compadd -- $steps
}
